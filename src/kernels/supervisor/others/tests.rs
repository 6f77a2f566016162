//! Who is with another kernel, and how often.

use serde_json::json;
use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::kernels::supervisor::journal::memory::MemoryJournal;

const JOURNAL_BYTES: usize = 1 << 20;

const ID: &str = "00000000-0000-4000-8000-000000000007";

fn main_start() -> Start {
    let start = json!({
        "format": 1, "kernel_id": ID, "spec": "x", "argv": [], "language": "x", "interrupt_mode": "signal",
        "resource_dir": "/", "env": {}, "cwd": "/", "transport": "ipc", "launch_timeout_ms": 1000,
        "journal_bytes_max": JOURNAL_BYTES, "owner": "me",
    });
    serde_json::from_value(start).unwrap()
}

/// Two clients of one session would take the line from each other for ever.
#[tokio::test]
async fn another_kernel_is_joined_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("kernels").join(ID);
    let broker = Broker::new(Box::new(MemoryJournal::new(JOURNAL_BYTES)));
    let joins = async {
        let others = Others::new(&main_start(), &folder, broker);
        let machine = others.machine.as_ref().unwrap();
        let kernel = OtherKernel::Venv("old".to_owned());
        // As when a cell asks for one that the successor of a supervisor is just finding.
        let first = others.join(&kernel, machine);
        assert!(Rc::ptr_eq(&first, &others.join(&kernel, machine)));
        while !first.is_gone() {
            yield_now().await;
        }
        assert!(!Rc::ptr_eq(&first, &others.join(&kernel, machine)));
    };
    LocalSet::new().run_until(joins).await;
}

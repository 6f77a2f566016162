//! Large messages and many, through a real ipykernel in the v1 framing: whole, in order, once, and in bounds.

use bytes::Bytes;
use nb::protocol::message::Channel;
use serde_json::json;

use crate::gateway::Gateway;
use crate::memory::{BESIDE_KIB, assert_peaks, kib};

const JOURNAL_BYTES: usize = 32 << 20;
const BURST: usize = 5000;

/// A message of this size passes both ways.
const LARGEST: usize = 100 << 20;

/// A target that sends back what it gets.
const ECHO: &str = "def target(comm, opening):
    comm.on_msg(lambda said: comm.send(said['content']['data'], buffers=said['buffers']))
    comm.send(opening['content']['data'], buffers=opening['buffers'])
get_ipython().kernel.comm_manager.register_target('echo', target)";

async fn all_sizes(handover: &'static str) {
    let mut gateway = Gateway::start(handover).await;
    let settings = format!("journal.bytes_max = {JOURNAL_BYTES}");
    gateway.replace_set(&settings).await;
    let kernel = gateway.kernel("{}").await;
    let mut client = gateway.connect(&kernel, "a").await;
    let in_bounds = async |what: &str, message_bytes: usize| {
        let bound = kib(JOURNAL_BYTES + message_bytes) + BESIDE_KIB;
        gateway.wait_for_kib(&kernel, bound, what).await;
    };

    for bytes in [20_000_000, LARGEST] {
        let code = format!("print('0123456789' * {}, end='', flush=True)", bytes / 10);
        let text = client.run(&code).await.text;
        assert_eq!(text.len(), bytes, "{handover}");
        assert!(
            text.as_bytes()
                .chunks(10)
                .all(|chunk| chunk == b"0123456789")
        );
        in_bounds("an output", bytes).await;
        assert_peaks(&gateway, &kernel, JOURNAL_BYTES, bytes).await;
    }

    let large = "x".repeat(20_000_000);
    let code = format!("large = '{large}'\nprint(len(large), set(large))");
    assert_eq!(client.run(&code).await.text, "20000000 {'x'}\n");
    in_bounds("a cell", code.len()).await;

    let code = format!(
        "from IPython.display import display\nfor n in range({BURST}): \
         display({{'text/plain': f'{{n}} '}}, raw=True)"
    );
    let numbers: String = (0..BURST).map(|n| format!("{n} ")).collect();
    assert_eq!(client.run(&code).await.shown, numbers, "{handover}");

    client.run(ECHO).await;
    let pattern: Vec<u8> = (0..=255).collect();
    let pattern = |bytes: usize| Bytes::from(pattern.repeat(bytes / 256));
    let opening = json!({"comm_id": "c", "target_name": "echo", "data": {"n": 1}});
    let message = json!({"comm_id": "c", "data": {"n": 2}});
    for (msg_type, content, sizes) in [
        ("comm_open", opening, vec![12_000_000, 0, 11_000_000]),
        ("comm_msg", message, vec![LARGEST]),
    ] {
        let expected = content["data"].clone();
        let buffers: Vec<_> = sizes.iter().map(|bytes| pattern(*bytes)).collect();
        client
            .send_with(Channel::Shell, msg_type, content, buffers.clone())
            .await;
        let back = loop {
            let said = client.next().await.unwrap();
            if said.msg_type == "comm_msg" {
                break said;
            }
        };
        assert_eq!(back.content["data"], expected, "{handover}");
        assert!(back.buffers == buffers, "{msg_type}, {handover}");
        // What the ZeroMQ crate has written a request from it keeps.
        in_bounds(msg_type, 2 * sizes.iter().sum::<usize>()).await;
    }
    assert_peaks(&gateway, &kernel, JOURNAL_BYTES, 2 * LARGEST).await;
    assert_eq!(client.run("print('here')").await.text, "here\n");
}

#[tokio::test]
async fn large_messages_and_many_pass_whole_after_a_handover() {
    all_sizes("auto").await;
}

#[tokio::test]
async fn large_messages_and_many_pass_whole_through_the_gateway() {
    all_sizes("never").await;
}

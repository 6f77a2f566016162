//! What the path through nb costs beside raw ZeroMQ, against a kernel that answers at once: the release
//! binary in its default configuration, and ratios of one run, since the machine's own speed says
//! nothing.
//!
//! ```text
//! codecs           one message, no sockets
//! paths -> ways    cells, bursts, starts and crowds over each way to a kernel
//!       -> beside  the same cells while another kernel is loud
//!       -> servers the processes at the other end, what they hold and use
//!       -> looking what it costs that our magics look at each cell
//!       -> table   medians, ratios and goals
//! ```
//!
//! `cargo bench -- PART...` measures only these: `codecs`, `idle`, `one`, `starts`, `crowds`,
//! `beside`, `looking`.
//!
//! This program is also that kernel: `gateway instant CONNECTION_FILE` is the tests' `peer`.

mod beside;
mod codecs;
mod looking;
mod paths;
#[path = "../../tests/it/peers/main.rs"]
mod peer;
mod servers;
mod table;
mod ways;

use std::time::Duration;

use tokio::time::timeout;

/// The manner of the kernel that everything is measured against.
const MANNER: &str = "instant";

/// More than a run takes on any machine that is of use for it.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    if std::env::args().nth(1).as_deref() == Some(MANNER) {
        return peer::main();
    }
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("codecs") {
        codecs::measure();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // What was started ends with the future, also when it is given up.
    runtime.block_on(async {
        tokio::select! {
            measured = timeout(LIMIT, all(wanted)) => measured.expect("the run hangs"),
            _ = tokio::signal::ctrl_c() => {}
        }
    });
}

async fn all(wanted: impl Fn(&str) -> bool) {
    paths::measure(&wanted).await;
    if wanted("beside") {
        beside::measure().await;
    }
    if wanted("looking") {
        looking::measure().await;
    }
}

#[expect(clippy::print_stdout, reason = "the report")]
fn report(line: &str) {
    println!("{line}");
}

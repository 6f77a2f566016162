//! A program of a test's own, which runs to its end by itself or takes turns with the test: a line of its output is where
//! the test has to do something, a line of its input is when it goes on. Must not know what either of them does.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::gateway::{LIMIT, project};

/// A suite of several kernels takes its time.
pub(crate) const SUITE_LIMIT: Duration = Duration::from_secs(300);

/// Runs a program to its good end; what it printed.
pub(crate) async fn runs(mut command: Command) -> String {
    let done = timeout(SUITE_LIMIT, command.output())
        .await
        .expect("it hangs")
        .unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}\n{stdout}\n{stderr}", done.status);
    stdout.into_owned()
}

/// Ends with the test.
#[derive(Debug)]
pub(crate) struct Driver {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
    orders: Option<ChildStdin>,
}

impl Driver {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    pub(crate) fn start(mut program: Command) -> Self {
        let mut process = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            said: BufReader::new(process.stdout.take().unwrap()).lines(),
            orders: process.stdin.take(),
            process,
        }
    }

    /// A script of `tests/js` in Node.
    pub(crate) fn node(mut node: Command, script: &str, arguments: &[&str]) -> Self {
        node.arg(project("tests/js").join(script)).args(arguments);
        Self::start(node)
    }

    /// Waits for a line that begins with this word and gives its rest; others are shown.
    pub(crate) async fn says(&mut self, word: &str) -> String {
        let said = self.heard(Some(word)).await;
        said.unwrap_or_else(|| panic!("it has ended before {word}"))
    }

    #[expect(clippy::print_stdout, reason = "what it says is for people to read")]
    async fn heard(&mut self, word: Option<&str>) -> Option<String> {
        let said = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                match word.and_then(|word| line.strip_prefix(word)) {
                    Some(rest) => return Some(rest.trim().to_owned()),
                    None => println!("{line}"),
                }
            }
            None
        };
        // Each of its steps has a deadline of its own.
        let said = timeout(4 * LIMIT, said).await;
        said.expect("the driver hangs")
    }

    pub(crate) async fn goes_on(&mut self) {
        let orders = self.orders.as_mut().unwrap();
        orders.write_all(b"\n").await.unwrap();
    }

    /// It hears no more, says what is left to say, and ends well.
    pub(crate) async fn ends(mut self) {
        self.orders = None;
        self.heard(None).await;
        let ended = timeout(LIMIT, self.process.wait()).await;
        assert!(ended.expect("the driver hangs").unwrap().success());
    }
}

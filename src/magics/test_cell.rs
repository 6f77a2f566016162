//! A cell for unit tests: keeps what is shown, answers from lists.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use futures_util::future::{self, LocalBoxFuture};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use super::call::Call;
use super::cell::{Cell, Facts, Output, Place, Question};
use super::failure::Failure;
use super::other::{OtherKernel, Others, Running};

/// The call of a line.
pub(super) fn call(magic: &str, line: &str) -> Call {
    Call {
        magic: magic.to_owned(),
        line: line.to_owned(),
        cell: None,
    }
}

/// A cell of a kernel that does not exist.
#[derive(Debug)]
pub(super) struct TestCell {
    /// All that was shown.
    pub(super) shown: RefCell<Vec<Output>>,
    /// What questions are answered with; then they fail.
    pub(super) answers: RefCell<VecDeque<String>>,
    /// What hidden code prints; then it fails.
    pub(super) printed: RefCell<VecDeque<String>>,
    pub(super) facts: Facts,
    pub(super) place: Place,
    interrupt: Notify,
}

impl Default for TestCell {
    fn default() -> Self {
        Self {
            shown: RefCell::default(),
            answers: RefCell::default(),
            printed: RefCell::default(),
            facts: Facts {
                kernel_id: "3f0c7d1e-0000-4000-8000-000000000000".to_owned(),
                spec: "python3".to_owned(),
                language: "python".to_owned(),
                execution_state: "busy".to_owned(),
                pid: None,
                started: Some(Timestamp::UNIX_EPOCH),
                restarts: 2,
                connected: 1,
                away: 3,
                lost_messages: 0,
                lost_bytes: 0,
                journal_bytes: 2048,
                journal_bytes_max: 64 * 1024 * 1024,
            },
            place: Place {
                environment: None,
                data: None,
                argv: vec!["/no/such/bin/python".to_owned()],
                env: BTreeMap::new(),
                cwd: PathBuf::from("/home/me"),
                scratch: PathBuf::from("/no/such/scratch"),
            },
            interrupt: Notify::new(),
        }
    }
}

impl TestCell {
    /// Interrupts the cell.
    pub(super) fn interrupt(&self) {
        self.interrupt.notify_one();
    }
}

impl Cell for TestCell {
    fn emit(&self, output: Output) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move { self.shown.borrow_mut().push(output) })
    }

    fn ask(&self, _: Question) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let answer = self.answers.borrow_mut().pop_front();
        let answer = answer.ok_or_else(|| Failure::new("StdinError", "Nobody answers."));
        Box::pin(future::ready(answer))
    }

    fn run_hidden(&self, _: String) -> LocalBoxFuture<'_, Result<String, Failure>> {
        let printed = self.printed.borrow_mut().pop_front();
        let printed = printed.ok_or_else(|| Failure::new("NameError", "There is no kernel."));
        Box::pin(future::ready(printed))
    }

    fn interrupted(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(self.interrupt.notified())
    }

    fn restart(&self) {}

    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn others(&self) -> &dyn Others {
        &NoOthers
    }

    fn run_in<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        _: String,
        _: bool,
    ) -> LocalBoxFuture<'a, Result<(), Failure>> {
        Box::pin(future::ready(Err(no_other(kernel))))
    }
}

/// There are none.
#[derive(Debug)]
struct NoOthers;

fn no_other(kernel: &OtherKernel) -> Failure {
    Failure::new("KernelError", format!("There is no {kernel}."))
}

impl Others for NoOthers {
    fn start<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>> {
        Box::pin(future::ready(Err(no_other(kernel))))
    }

    fn running(&self) -> LocalBoxFuture<'_, Vec<Running>> {
        Box::pin(future::ready(Vec::new()))
    }

    fn run_hidden<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        _: String,
    ) -> LocalBoxFuture<'a, Result<String, Failure>> {
        Box::pin(future::ready(Err(no_other(kernel))))
    }

    fn ask<'a>(
        &'a self,
        kernel: &'a OtherKernel,
        _: &'a str,
        _: Value,
    ) -> LocalBoxFuture<'a, Result<Value, Failure>> {
        Box::pin(future::ready(Err(no_other(kernel))))
    }

    fn restart<'a>(&'a self, kernel: &'a OtherKernel) -> LocalBoxFuture<'a, Result<(), Failure>> {
        Box::pin(future::ready(Err(no_other(kernel))))
    }

    fn end<'a>(&'a self, _: &'a OtherKernel) -> LocalBoxFuture<'a, bool> {
        Box::pin(future::ready(false))
    }
}

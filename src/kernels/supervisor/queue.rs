//! The order of cells between us and the kernel. Pure: requests in, actions out.
//!
//! One queue per (kernel, subshell). With nothing of ours pending every request goes to the kernel at
//! once and the kernel's own abort rule holds. A cell of ours waits for the cells before it; while it
//! waits or runs, later cells and comm messages wait too, the rest passes.

use std::collections::VecDeque;

use super::journal::RequestKey;

/// What a request is to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A cell that we run outside the kernel.
    Ours,
    /// A cell for the kernel.
    Execute,
    /// Keeps its place among cells, has no reply.
    Comm,
    /// Answered by the kernel whenever it can: kernel_info, complete, inspect, history, ….
    Passing,
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<R> {
    Forward(R),
    Run(R),
    /// Answer it as `aborted`, as a kernel would.
    Abort(R),
}

#[derive(Debug)]
struct Waiting<R> {
    key: RequestKey,
    kind: Kind,
    request: R,
}

/// One queue; `R` is whatever the owner needs to act on a request.
#[derive(Debug)]
pub struct CellQueue<R> {
    /// Cells that the kernel has and has not answered.
    in_kernel: Vec<RequestKey>,
    /// Our cell that runs now.
    running: Option<RequestKey>,
    waiting: VecDeque<Waiting<R>>,
}

impl<R> Default for CellQueue<R> {
    fn default() -> Self {
        Self {
            in_kernel: Vec::new(),
            running: None,
            waiting: VecDeque::new(),
        }
    }
}

impl<R> CellQueue<R> {
    /// A request has come.
    pub fn submit(&mut self, key: RequestKey, kind: Kind, request: R) -> Vec<Action<R>> {
        let nothing_of_ours = self.running.is_none() && self.waiting.is_empty();
        if kind == Kind::Passing || (kind == Kind::Comm && nothing_of_ours) {
            return vec![Action::Forward(request)];
        }
        self.waiting.push_back(Waiting { key, kind, request });
        self.advance()
    }

    /// The kernel, or our own code, has answered a cell. `stops` when it failed and was sent with
    /// `stop_on_error`: then every cell that waits here is aborted.
    pub fn finished(&mut self, key: &str, stops: bool) -> Vec<Action<R>> {
        self.in_kernel.retain(|cell| cell.as_ref() != key);
        if self.running.as_deref() == Some(key) {
            self.running = None;
        }
        let mut actions = Vec::new();
        if stops {
            let (cells, rest) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(|waiting| waiting.kind != Kind::Comm);
            self.waiting = rest;
            actions.extend(cells.into_iter().map(|cell| Action::Abort(cell.request)));
        }
        actions.extend(self.advance());
        actions
    }

    /// Our cell has done its part and what is left of it is with the kernel: its place stays.
    pub fn handed_on(&mut self, key: &RequestKey) -> Vec<Action<R>> {
        if self.running.as_ref() == Some(key) {
            self.running = None;
            self.in_kernel.push(RequestKey::clone(key));
        }
        self.advance()
    }

    /// The kernel has this cell already.
    pub fn adopt(&mut self, key: &RequestKey) {
        self.in_kernel.push(RequestKey::clone(key));
    }

    /// Whether nothing is known here of any cell.
    pub fn is_empty(&self) -> bool {
        self.in_kernel.is_empty() && self.running.is_none() && self.waiting.is_empty()
    }

    /// Whether a failed cell would have something to abort here.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn advance(&mut self) -> Vec<Action<R>> {
        let mut actions = Vec::new();
        while self.running.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            match next.kind {
                Kind::Ours if !self.in_kernel.is_empty() => {
                    self.waiting.push_front(next);
                    break;
                }
                Kind::Ours => {
                    self.running = Some(next.key);
                    actions.push(Action::Run(next.request));
                }
                Kind::Execute => {
                    self.in_kernel.push(next.key);
                    actions.push(Action::Forward(next.request));
                }
                Kind::Comm | Kind::Passing => actions.push(Action::Forward(next.request)),
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Abort, Forward, Run};
    use proptest::prelude::*;

    fn submit(queue: &mut CellQueue<u32>, request: u32, kind: Kind) -> Vec<Action<u32>> {
        queue.submit(request.to_string().into(), kind, request)
    }

    #[test]
    fn with_nothing_of_ours_everything_is_forwarded_at_once() {
        let mut queue = CellQueue::default();
        for (request, kind) in [(1, Kind::Execute), (2, Kind::Execute), (3, Kind::Comm)] {
            assert_eq!(submit(&mut queue, request, kind), [Forward(request)]);
        }
        assert_eq!(queue.finished("1", true), []);
    }

    #[test]
    fn our_cell_waits_for_the_kernels_and_holds_those_behind_it() {
        let mut queue = CellQueue::default();
        submit(&mut queue, 1, Kind::Execute);
        assert_eq!(submit(&mut queue, 2, Kind::Ours), []);
        assert_eq!(submit(&mut queue, 3, Kind::Execute), []);
        assert_eq!(submit(&mut queue, 4, Kind::Comm), []);
        assert_eq!(submit(&mut queue, 5, Kind::Passing), [Forward(5)]);
        assert_eq!(queue.finished("1", false), [Run(2)]);
        assert_eq!(queue.finished("2", false), [Forward(3), Forward(4)]);
        assert!(!queue.is_empty());
        queue.finished("3", false);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_failed_cell_aborts_the_cells_behind_it_but_no_comm() {
        let mut queue = CellQueue::default();
        assert_eq!(submit(&mut queue, 1, Kind::Ours), [Run(1)]);
        for (request, kind) in [(2, Kind::Execute), (3, Kind::Comm), (4, Kind::Ours)] {
            assert_eq!(submit(&mut queue, request, kind), []);
        }
        assert_eq!(queue.finished("1", true), [Abort(2), Abort(4), Forward(3)]);
        assert_eq!(submit(&mut queue, 5, Kind::Execute), [Forward(5)]);
    }

    #[test]
    fn what_our_cell_hands_on_keeps_its_place() {
        let mut queue = CellQueue::default();
        assert_eq!(submit(&mut queue, 1, Kind::Ours), [Run(1)]);
        assert_eq!(submit(&mut queue, 2, Kind::Execute), []);
        assert_eq!(submit(&mut queue, 3, Kind::Ours), []);
        assert_eq!(queue.handed_on(&"1".into()), [Forward(2)]);
        assert_eq!(queue.finished("1", false), []);
        assert_eq!(queue.finished("2", false), [Run(3)]);
    }

    proptest! {
        /// Any order of requests and answers: each is acted on once, cells in their order.
        #[test]
        fn every_request_is_acted_on_once_and_cells_keep_their_order(
            steps in prop::collection::vec((0..4u8, any::<bool>()), 1..80),
        ) {
            let mut queue = CellQueue::default();
            let (mut open, mut acted, mut cells) = (VecDeque::new(), Vec::new(), Vec::new());
            let mut take = |actions: Vec<Action<u32>>, open: &mut VecDeque<u32>| {
                for action in actions {
                    match action {
                        Run(request) | Forward(request) => {
                            acted.push(request);
                            if request % 4 < 2 {
                                cells.push(request);
                                open.push_back(request);
                            }
                        }
                        Abort(request) => acted.push(request),
                    }
                }
            };
            let mut total = 0;
            for (kind, answer) in steps {
                let kinds = [Kind::Ours, Kind::Execute, Kind::Comm, Kind::Passing];
                let request = total * 4 + u32::from(kind);
                total += 1;
                let actions = submit(&mut queue, request, kinds[usize::from(kind)]);
                take(actions, &mut open);
                if answer && let Some(request) = open.pop_front() {
                    let actions = queue.finished(&request.to_string(), request % 3 == 0);
                    take(actions, &mut open);
                }
            }
            while let Some(request) = open.pop_front() {
                let actions = queue.finished(&request.to_string(), false);
                take(actions, &mut open);
            }
            prop_assert!(cells.is_sorted());
            acted.sort_unstable();
            acted.dedup();
            prop_assert_eq!(acted.len(), total as usize);
        }
    }
}

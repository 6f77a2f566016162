//! How far a cell is in another kernel, by what that kernel says of it. Pure.

use crate::protocol::message::Channel;

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// On its way, or behind something.
    #[default]
    Sent,
    /// The kernel has taken it, and may not yet hear an interrupt.
    Taken,
    /// Its code runs: an interrupt ends it.
    Runs,
}

impl Progress {
    /// How far a cell is that was as far as this and of which the kernel says such a message.
    #[must_use]
    pub fn hears(self, channel: Channel, msg_type: &str) -> Self {
        let heard = match (channel, msg_type) {
            (Channel::Iopub, "status") => Self::Taken,
            (Channel::Control, _) => Self::Sent,
            _ => Self::Runs,
        };
        self.max(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_runs_once_it_is_said_to_do_more_than_begin() {
        for (said, progress) in [
            (&[][..], Progress::Sent),
            (&[(Channel::Iopub, "status")], Progress::Taken),
            (
                &[
                    (Channel::Iopub, "status"),
                    (Channel::Iopub, "execute_input"),
                ],
                Progress::Runs,
            ),
            (
                &[(Channel::Iopub, "stream"), (Channel::Iopub, "status")],
                Progress::Runs,
            ),
            (&[(Channel::Stdin, "input_request")], Progress::Runs),
        ] {
            let heard = said.iter().fold(Progress::Sent, |at, (channel, msg_type)| {
                at.hears(*channel, msg_type)
            });
            assert_eq!(heard, progress, "{said:?}");
        }
    }
}

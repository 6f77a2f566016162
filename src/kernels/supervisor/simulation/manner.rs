//! How one line of a client goes: how wide it is, how fast and how much is read and written, how it ends.

use std::time::Duration;

use super::chance::Chance;

/// How long a line stays after its last request, at most.
const STAYS: [u64; 7] = [0, 100, 1000, 1000, 4000, 20_000, 100_000];

/// How a client answers pings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answers {
    Always,
    /// In so many of a hundred cases, and else later or never.
    Mostly(u64),
    Never,
}

/// How a line goes.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) pipe_bytes: usize,
    /// So much is read, and written, until it is cut.
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) answers: Answers,
    /// A pause before a read is at most that long, in so many of a hundred cases.
    pub(super) pauses: (u64, Duration),
    pub(super) requests: u64,
    /// How long it stays after its last request, at most; without this until the line ends.
    pub(super) stays: Option<Duration>,
    pub(super) ends: Ends,
    /// It answers what the kernel asks in so many of a hundred cases.
    pub(super) obliges: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    Cut,
    Goodbye,
    /// Nobody reads it any more, and nobody closes it for so long.
    Held(Duration),
}

impl Manner {
    /// Anything may go wrong.
    pub(super) fn any(chance: &mut Chance) -> Self {
        let fuse = |chance: &mut Chance, cases, most| match chance.percent(cases) {
            true => chance.below(most),
            false => u64::MAX,
        };
        Self {
            pipe_bytes: usize::try_from(chance.among(&[64, 1000, 16_000, 65_536])).unwrap(),
            reads: fuse(chance, 30, 8000),
            writes: fuse(chance, 15, 2000),
            answers: match chance.below(10) {
                0..5 => Answers::Always,
                5..9 => Answers::Mostly(chance.below(100)),
                _ => Answers::Never,
            },
            pauses: match chance.below(10) {
                0..6 => (0, Duration::ZERO),
                6..9 => (20, Duration::from_millis(500)),
                _ => (10, Duration::from_secs(50)),
            },
            requests: chance.below(6),
            stays: Some(chance.among(&STAYS.map(Duration::from_millis))),
            ends: match chance.below(10) {
                0..5 => Ends::Cut,
                5..8 => Ends::Goodbye,
                _ => Ends::Held(chance.pause(Duration::from_secs(100))),
            },
            obliges: chance.among(&[0, 50, 100]),
        }
    }

    /// Nothing goes wrong, and it stays.
    pub(super) fn peaceful() -> Self {
        Self {
            pipe_bytes: 1 << 16,
            reads: u64::MAX,
            writes: u64::MAX,
            answers: Answers::Always,
            pauses: (0, Duration::ZERO),
            requests: 0,
            stays: None,
            ends: Ends::Cut,
            obliges: 100,
        }
    }
}

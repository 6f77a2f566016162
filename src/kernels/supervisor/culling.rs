//! When a kernel is ended by itself: idle for too long, or too old. The rule is pure; the watch asks it.
//!
//! A kernel that was culled is dead with its reason and can be restarted; like every dead kernel it is
//! forgotten after a day.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::info;

use super::broker::{Broker, Snapshot};
use super::lifecycle::Command;
use crate::kernels::contract::Cull;

/// A dead kernel is listed with its reason, and its output kept for clients, for this long.
const DEAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How often is looked, at most and at least.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What is known of a kernel at one time.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Since it last began or ended work, or a client was last there.
    unused: Duration,
    age: Duration,
    busy: bool,
    connected: bool,
    dead: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// With the reason.
    Cull(String),
    Forget,
}

fn judge(policy: &Cull, seen: Seen) -> Verdict {
    let over = |limit_s: Option<u64>, time: Duration| {
        limit_s.filter(|limit_s| time >= Duration::from_secs(*limit_s))
    };
    if seen.dead {
        let forgotten = !seen.connected && seen.unused >= DEAD_KEPT;
        return if forgotten {
            Verdict::Forget
        } else {
            Verdict::Keep
        };
    }
    if let Some(age_s) = over(policy.age_max_s, seen.age) {
        return Verdict::Cull(format!(
            "the kernel was ended: it was {age_s} s old, its time here"
        ));
    }
    let spared = (seen.connected && !policy.connected) || (seen.busy && !policy.busy);
    match over(policy.idle_s, seen.unused) {
        Some(idle_s) if !spared => Verdict::Cull(format!(
            "the kernel was ended: it was not used for {idle_s} s"
        )),
        _ => Verdict::Keep,
    }
}

/// Looks until there is nothing left to end.
pub(super) async fn watch(policy: &Cull, broker: &Broker, commands: &mpsc::Sender<Command>) {
    let begun = Timestamp::now();
    let mut last_connected = begun;
    let shortest = [policy.idle_s, policy.age_max_s]
        .into_iter()
        .flatten()
        .min();
    let [least, most] = LOOK_EVERY;
    let every = shortest.map_or(most, |limit_s| {
        (Duration::from_secs(limit_s) / 10).clamp(least, most)
    });
    loop {
        sleep(every).await;
        let (snapshot, now) = (broker.snapshot(), Timestamp::now());
        // Where clients spare no kernel, their being there is no use of it either.
        if snapshot.connections > 0 && !policy.connected {
            last_connected = now;
        }
        match judge(policy, seen(&snapshot, begun, last_connected, now)) {
            Verdict::Keep => {}
            Verdict::Cull(reason) => {
                info!(reason, "culled");
                let _ending = commands.send(Command::Cull(reason)).await;
            }
            Verdict::Forget => {
                let (asker, _done) = oneshot::channel();
                let _ending = commands.send(Command::Shutdown(asker)).await;
            }
        }
    }
}

fn seen(snapshot: &Snapshot, begun: Timestamp, last_connected: Timestamp, now: Timestamp) -> Seen {
    let since = |time| Duration::try_from(now.duration_since(time)).unwrap_or_default();
    Seen {
        unused: since(snapshot.last_activity.max(last_connected)),
        age: since(begun),
        busy: snapshot.execution_state == "busy",
        connected: snapshot.connections > 0,
        dead: snapshot.execution_state == "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Seen = Seen {
        unused: Duration::from_secs(100),
        age: Duration::from_secs(1000),
        busy: false,
        connected: false,
        dead: false,
    };

    fn culled(policy: &Cull, seen: Seen) -> bool {
        matches!(judge(policy, seen), Verdict::Cull(_))
    }

    #[test]
    fn by_default_nothing_is_culled() {
        let old = Seen {
            unused: Duration::MAX,
            age: Duration::MAX,
            ..IDLE
        };
        assert_eq!(judge(&Cull::default(), old), Verdict::Keep);
    }

    #[test]
    fn an_unused_kernel_goes_unless_it_is_busy_or_somebody_is_there() {
        let policy = |connected, busy| Cull {
            idle_s: Some(100),
            connected,
            busy,
            age_max_s: None,
        };
        let busy = Seen { busy: true, ..IDLE };
        let connected = Seen {
            connected: true,
            ..IDLE
        };
        let fresh = Seen {
            unused: Duration::from_secs(99),
            ..IDLE
        };
        let plain = policy(false, false);
        let verdicts = [IDLE, busy, connected, fresh].map(|seen| culled(&plain, seen));
        assert_eq!(verdicts, [true, false, false, false]);
        assert!(culled(&policy(true, false), connected) && culled(&policy(false, true), busy));
        let both = Seen {
            busy: true,
            ..connected
        };
        assert!(!culled(&policy(true, false), both) && culled(&policy(true, true), both));
    }

    #[test]
    fn a_maximum_age_spares_nobody() {
        let policy = Cull {
            age_max_s: Some(1000),
            ..Cull::default()
        };
        let used = Seen {
            unused: Duration::ZERO,
            busy: true,
            connected: true,
            ..IDLE
        };
        assert!(culled(&policy, used));
        let younger = Seen {
            age: Duration::from_secs(999),
            ..used
        };
        assert_eq!(judge(&policy, younger), Verdict::Keep);
    }

    #[test]
    fn a_dead_kernel_is_forgotten_after_a_day_without_clients() {
        let policy = Cull {
            idle_s: Some(1),
            ..Cull::default()
        };
        let dead = Seen { dead: true, ..IDLE };
        assert_eq!(judge(&policy, dead), Verdict::Keep);
        let long = Seen {
            unused: DEAD_KEPT,
            ..dead
        };
        assert_eq!(judge(&policy, long), Verdict::Forget);
        let read = Seen {
            connected: true,
            ..long
        };
        assert_eq!(judge(&policy, read), Verdict::Keep);
    }
}

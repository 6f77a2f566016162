//! Sockets that a service manager listens on and passes on at the start: `sd_listen_fds(3)`.

use std::env;
use std::os::fd::OwnedFd;
use std::process;

use listenfd::ListenFd;

use crate::error::Error;

/// More are not taken.
const SOCKETS_MAX: usize = 16;

/// The sockets that are passed to this very process; none without a service manager.
///
/// Variables that were meant for another process are passed over: whoever starts us may have been started so.
pub fn passed_sockets() -> Result<Vec<OwnedFd>, Error> {
    let number = |name| env::var(name).ok().and_then(|value| value.parse().ok());
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if u32::try_from(pid) == Ok(process::id()) => count,
        _ => return Ok(Vec::new()),
    };
    if count > SOCKETS_MAX {
        return Err(Error::user(format!(
            "LISTEN_FDS passes {count} sockets, and {SOCKETS_MAX} are the most"
        )));
    }
    let mut passed = ListenFd::from_env();
    let take = |index| -> Option<OwnedFd> {
        let tcp = passed.take_tcp_listener(index);
        if let Ok(Some(listener)) = tcp {
            return Some(listener.into());
        }
        let unix = passed.take_unix_listener(index);
        unix.ok().flatten().map(OwnedFd::from)
    };
    let sockets: Option<_> = (0..count).map(take).collect();
    sockets.ok_or_else(|| {
        Error::user("LISTEN_FDS passes something that is no stream socket of TCP or Unix")
    })
}

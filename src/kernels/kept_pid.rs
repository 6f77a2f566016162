//! A process as a file may name it: its pid alone could be another's by the time it is read.
//!
//! Knows nothing of what the process is.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

/// A pid and when its process started, in clock ticks since the machine did (`proc_pid_stat(5)`,
/// field 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPid {
    pub pid: i32,
    pub start_ticks: u64,
}

impl KeptPid {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let start_ticks = fields.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start_ticks })
    }

    /// Whether it is still the same process, and has not ended.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self) && !self.is_zombie()
    }

    /// Readable once the process has ended.
    pub fn watch(self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::NotFound)?;
        let watched = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // It could have been another's by then.
        match Self::of(self.pid) == Some(self) {
            true => Ok(watched),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_zombie(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, fields)| fields.starts_with('Z'))
    }

    /// Ends the process group that this process leads, if it is still the same process.
    pub fn kill_group(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.pid > 1) else {
            return false;
        };
        Self::of(self.pid) == Some(self) && kill_process_group(pid, Signal::KILL).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn only_the_process_that_was_meant_is_ended() {
        let mut child = Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        let kept = KeptPid::of(i32::try_from(child.id()).unwrap()).unwrap();
        let earlier = KeptPid {
            start_ticks: kept.start_ticks - 1,
            ..kept
        };
        assert!(!earlier.kill_group());
        assert!(child.try_wait().unwrap().is_none());
        assert!(kept.is_alive() && kept.watch().is_ok());
        assert!(!earlier.is_alive() && earlier.watch().is_err());
        assert!(kept.kill_group());
        child.wait().unwrap();
        assert!(!kept.is_alive());
        assert!(!kept.kill_group());
        assert!(!KeptPid { pid: 0, ..kept }.kill_group());
    }
}

//! What the operating system says of the machine and of the memory of processes, read from `/proc`.
//!
//! Blocking, though short. Knows nothing of kernels; what cannot be read is left out.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where the operating system is asked; tests give folders of their own.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) proc: PathBuf,
    pub(super) cgroup: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
        }
    }
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Machine {
    pub(super) hostname: Option<String>,
    /// Those that this process may use.
    pub(super) cores: Option<usize>,
    /// Over 1, 5 and 15 minutes.
    pub(super) load: Option<[f64; 3]>,
}

/// Memory in bytes, resident: shared pages count in each process that has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// All processes of the kernel's process group.
    pub(super) kernel_bytes: Option<u64>,
    pub(super) supervisor_bytes: Option<u64>,
    pub(super) machine_total_bytes: Option<u64>,
    pub(super) machine_available_bytes: Option<u64>,
    /// The tightest limit that the operating system sets to our control group; beyond it processes die.
    pub(super) limit_bytes: Option<u64>,
}

/// Asks for the machine.
pub(super) fn machine(sources: &Sources) -> Machine {
    Machine {
        hostname: read(&sources.proc.join("sys/kernel/hostname"))
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty()),
        cores: std::thread::available_parallelism().ok().map(usize::from),
        load: read(&sources.proc.join("loadavg")).and_then(|text| parse_load(&text)),
    }
}

/// Asks for memory; `group` is the process group of the kernel.
pub(super) fn memory(sources: &Sources, group: Option<u32>) -> Memory {
    let info = read(&sources.proc.join("meminfo")).unwrap_or_default();
    Memory {
        kernel_bytes: group.and_then(|group| group_resident(&sources.proc, group)),
        supervisor_bytes: resident(&sources.proc.join("self")),
        machine_total_bytes: kilobytes(&info, "MemTotal:"),
        machine_available_bytes: kilobytes(&info, "MemAvailable:"),
        limit_bytes: limit(sources),
    }
}

fn read(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

fn resident(process: &Path) -> Option<u64> {
    kilobytes(&read(&process.join("status"))?, "VmRSS:")
}

fn group_resident(proc: &Path, group: u32) -> Option<u64> {
    let members = fs::read_dir(proc).ok()?.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let process = entry.path();
        let stat = read(&process.join("stat"))?;
        if parse_group(&stat)? != group {
            return None;
        }
        resident(&process)
    });
    members.reduce(u64::saturating_add)
}

/// The process group in `/proc/PID/stat`: the third word behind the name, which may hold anything.
fn parse_group(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(2)?.parse().ok()
}

fn limit(sources: &Sources) -> Option<u64> {
    let groups = read(&sources.proc.join("self/cgroup"))?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = sources.cgroup.join(own);
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(&sources.cgroup))
        .filter_map(|folder| read(&folder.join("memory.max"))?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_process_group_is_summed_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().join("proc");
        for (pid, stat, status) in [
            (10, "10 (python) S 1 10 10 0", "VmRSS:\t  100 kB\n"),
            (11, "11 (a) b (c) S 10 10 10 0", "VmRSS:\t  20 kB\n"),
            (12, "12 (other) S 1 12 12 0", "VmRSS:\t  4 kB\n"),
            (13, "13 (zombie) Z 10 10 10 0", "State:\tZ (zombie)\n"),
            (14, "broken", ""),
        ] {
            write(&proc, &format!("{pid}/stat"), stat);
            write(&proc, &format!("{pid}/status"), status);
        }
        write(&proc, "self/status", "Name:\tnb\nVmRSS:\t7 kB\n");
        write(&proc, "self/cgroup", "1:name=x:/\n0::/user/me\n");
        write(
            &proc,
            "meminfo",
            "MemTotal:  16 kB\nMemFree: 1 kB\nMemAvailable:  8 kB\n",
        );
        write(&proc, "loadavg", "0.50 1.00 2.25 1/2 3\n");
        write(&proc, "sys/kernel/hostname", "here\n");
        let cgroup = folder.path().join("cgroup");
        write(&cgroup, "user/memory.max", "4096\n");
        write(&cgroup, "user/me/memory.max", "max\n");
        let sources = Sources { proc, cgroup };
        assert_eq!(
            memory(&sources, Some(10)),
            Memory {
                kernel_bytes: Some(120 * 1024),
                supervisor_bytes: Some(7 * 1024),
                machine_total_bytes: Some(16 * 1024),
                machine_available_bytes: Some(8 * 1024),
                limit_bytes: Some(4096),
            }
        );
        assert_eq!(memory(&sources, Some(99)).kernel_bytes, None);
        let machine = machine(&sources);
        assert_eq!(machine.hostname.as_deref(), Some("here"));
        assert_eq!(machine.load, Some([0.5, 1.0, 2.25]));
    }

    #[test]
    fn nothing_to_read_is_nothing_known() {
        let sources = Sources {
            proc: PathBuf::from("/no/such/proc"),
            cgroup: PathBuf::from("/no/such/cgroup"),
        };
        assert_eq!(memory(&sources, Some(1)), Memory::default());
        assert_eq!(machine(&sources).load, None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let memory = memory(&Sources::default(), None);
        assert!(memory.supervisor_bytes.unwrap() < memory.machine_total_bytes.unwrap());
    }
}

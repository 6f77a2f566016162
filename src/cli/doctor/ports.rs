//! Who listens on a port: what `/proc` says, for processes of ours.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::facts::Port;

/// Whether this address can be listened on, else who does.
pub(super) fn look(address: SocketAddr) -> Port {
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken(address.port()),
        Err(error) => Port::Unusable(error.to_string()),
    }
}

/// The same for a Unix socket.
pub(super) fn look_sock(path: &Path) -> Port {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        // What a killed gateway has left is replaced.
        Err(error) if [NotFound, ConnectionRefused].contains(&error.kind()) => return Port::Free,
        Err(error) => return Port::Unusable(error.to_string()),
    };
    let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else {
        return Port::Taken(None);
    };
    let pid = peer.pid.as_raw_nonzero().get();
    match u32::try_from(pid) {
        Ok(pid) => by(
            pid,
            &fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(),
        ),
        Err(_) => Port::Taken(None),
    }
}

fn taken(port: u16) -> Port {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok());
    let inodes: Vec<u64> = inodes.flat_map(|table| listening(&table, port)).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holds = |folder: &Path| {
        let descriptors = fs::read_dir(folder.join("fd")).into_iter().flatten();
        descriptors.flatten().any(|descriptor| {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            inodes
                .iter()
                .any(|inode| *target == *format!("socket:[{inode}]"))
        })
    };
    for process in processes {
        let folder = process.path();
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if holds(&folder) {
            let command = fs::read(folder.join("cmdline")).unwrap_or_default();
            return by(pid, &command);
        }
    }
    Port::Taken(None)
}

/// The inodes of the sockets that listen on this port, out of a `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().filter_map(of_line).collect()
}

/// The holder, by its command line as `/proc` has it.
fn by(pid: u32, command: &[u8]) -> Port {
    let mut arguments = command
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let program = arguments.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let is_nb = ["nb", "exe"].contains(&&*name);
    match arguments.next() {
        Some(first) if is_nb && first == "serve" => Port::Nb { pid },
        // Only the program: arguments may hold secrets.
        _ => Port::Taken(Some(format!("{name} (pid {pid})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pid = std::process::id();
        // A child that another test starts holds it too, between its fork and its exec.
        let until = |what: &str, is: &dyn Fn(&Port) -> bool| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is(&look(address)) {
                assert!(
                    Instant::now() < deadline,
                    "never {what}: {:?}",
                    look(address)
                );
            }
        };
        until(
            "ours",
            &|port| matches!(port, Port::Taken(Some(by)) if by.ends_with(&format!("(pid {pid})"))),
        );
        drop(listener);
        until("free", &|port| *port == Port::Free);
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(look(elsewhere), Port::Unusable(_)));
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(look_sock(&path), Port::Free);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let by = format!("(pid {})", std::process::id());
        match look_sock(&path) {
            Port::Taken(Some(holder)) => assert!(holder.ends_with(&by), "{holder}"),
            other => panic!("{other:?}"),
        }
        drop(listener);
        assert_eq!(look_sock(&path), Port::Free);
    }

    #[test]
    fn only_who_listens_on_that_port_has_it() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 77 1\n\
            1: 0100007F:22B8 0100007F:C000 01 00000000:00000000 00:00000000 00000000  0 0 78 1\n\
            2: 0100007F:22B9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 79 1\n\
            broken";
        assert_eq!(listening(table, 8888), [77]);
        assert_eq!(
            by(7, b"/usr/bin/nb\0serve\0--port\x000\0"),
            Port::Nb { pid: 7 }
        );
        let jupyter = Port::Taken(Some("python3 (pid 7)".to_owned()));
        assert_eq!(
            by(7, b"/usr/bin/python3\0-m\0jupyter\0--token=s\0"),
            jupyter
        );
    }
}

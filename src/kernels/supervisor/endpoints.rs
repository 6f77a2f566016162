//! Where one start of a kernel process is to bind: its connection file's endpoints, and its TCP ports held for it.
//!
//! A port that is only looked up can be given to somebody else before the kernel binds it. So our own socket
//! stays bound to it, not listening, with `SO_REUSEADDR`: the operating system then gives that port to nobody
//! who asks for any port, and a kernel, whose sockets have that option as all of ZeroMQ's do, can still listen
//! on it. Knows nothing of processes or of what is said on the sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::net::TcpSocket;

use crate::protocol::connection_file::{ConnectionFile, SignatureScheme, Transport};

/// The longest path of a Unix socket, less the suffix that kernels add.
const SOCKET_PATH_MAX: usize = 105;

/// A port that the operating system chooses.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The endpoints of one start.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub connection: ConnectionFile,
    /// None over ipc.
    held: Vec<TcpSocket>,
}

impl Endpoints {
    /// Endpoints that no other start has, Unix sockets in `folder` being named by `epoch`.
    pub(super) fn new(
        transport: Transport,
        folder: &Path,
        epoch: u32,
        spec: &str,
    ) -> io::Result<Self> {
        let key = uuid::Uuid::new_v4().to_string();
        if transport == Transport::Ipc {
            let prefix = folder.join(format!("k{epoch}")).display().to_string();
            if prefix.len() > SOCKET_PATH_MAX {
                let text = format!(
                    "{prefix} is too long for a Unix socket: use a shorter runtime directory"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            return Ok(Self {
                connection: ConnectionFile::ipc(prefix, key, spec.to_owned()),
                held: Vec::new(),
            });
        }
        let held = (0..5).map(|_| hold()).collect::<io::Result<Vec<_>>>()?;
        let mut ports = [0; 5];
        for (port, socket) in ports.iter_mut().zip(&held) {
            *port = socket.local_addr()?.port();
        }
        let [shell_port, iopub_port, stdin_port, control_port, hb_port] = ports;
        let connection = ConnectionFile {
            transport,
            ip: Ipv4Addr::LOCALHOST.to_string(),
            shell_port,
            iopub_port,
            stdin_port,
            control_port,
            hb_port,
            key,
            signature_scheme: SignatureScheme::HmacSha256,
            kernel_name: spec.to_owned(),
        };
        Ok(Self { connection, held })
    }

    /// Of a kernel that has ended: whether one of its ports is somebody else's. Lets go of them.
    pub(super) fn were_taken(self) -> bool {
        let ports: Vec<_> = (self.held.iter())
            .filter_map(|socket| socket.local_addr().ok())
            .collect();
        drop(self.held);
        ports.iter().any(|port| TcpListener::bind(port).is_err())
    }

    /// Whether there is any Unix socket where the kernel is to bind.
    pub(super) fn has_sockets(&self) -> bool {
        let file = &self.connection;
        let ports = [
            file.shell_port,
            file.iopub_port,
            file.stdin_port,
            file.control_port,
            file.hb_port,
        ];
        let path = |port| PathBuf::from(format!("{}-{port}", file.ip));
        file.transport == Transport::Ipc
            && (ports.iter()).any(|port| path(port).symlink_metadata().is_ok())
    }
}

fn hold() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(ANY)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tcp() -> (Endpoints, [SocketAddr; 5]) {
        let endpoints = Endpoints::new(Transport::Tcp, Path::new("/"), 1, "k").unwrap();
        let file = &endpoints.connection;
        let ports = [
            file.shell_port,
            file.iopub_port,
            file.stdin_port,
            file.control_port,
            file.hb_port,
        ];
        let ports = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        (endpoints, ports)
    }

    #[tokio::test]
    async fn held_ports_are_the_kernels_and_nobody_elses() {
        let (endpoints, ports) = tcp();
        for port in ports {
            // Whoever takes no special steps.
            let other = TcpSocket::new_v4().unwrap();
            let taken = other.bind(port).map_err(|error| error.kind());
            assert_eq!(taken, Err(io::ErrorKind::AddrInUse));
            // The kernel.
            drop(TcpListener::bind(port).unwrap());
        }
        assert!(!endpoints.were_taken());
        let all: Vec<_> = (0..40).map(|_| tcp()).collect();
        let different: BTreeSet<_> = all.iter().flat_map(|(_, ports)| *ports).collect();
        assert_eq!(different.len(), 200);
    }

    #[tokio::test]
    async fn a_port_that_somebody_listens_on_was_taken() {
        for at in 0..5 {
            let (endpoints, ports) = tcp();
            let thief = TcpListener::bind(ports[at]).unwrap();
            assert!(endpoints.were_taken(), "port {at}");
            drop(thief);
        }
    }

    #[test]
    fn unix_sockets_are_seen_and_their_path_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let ipc = |folder: &Path| Endpoints::new(Transport::Ipc, folder, 7, "k");
        let endpoints = ipc(folder.path()).unwrap();
        assert!(!endpoints.has_sockets());
        std::fs::write(folder.path().join("k7-5"), "").unwrap();
        assert!(endpoints.has_sockets());
        assert!(!endpoints.were_taken());
        let error = ipc(&folder.path().join("x".repeat(100))).unwrap_err();
        assert!(error.to_string().contains("shorter"), "{error}");
    }
}

//! What clients connect to: addresses and Unix sockets, made here or given by somebody else.
//!
//! A Unix socket is 0600 and only our own user and root get past the accept, whatever became of its mode: it
//! is one more lock, and no credential. Owns the socket's file until the socket is another's.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;
use uuid::Uuid;

use crate::error::Error;

/// The longest path that a Unix socket can have.
const PATH_BYTES_MAX: usize = 107;

/// What comes of an accept.
pub(crate) type Stream = Either<TcpStream, UnixStream>;

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(Sock),
}

/// The place of a [`Listener`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    Tcp(SocketAddr),
    /// From the root.
    Unix(PathBuf),
}

impl At {
    /// The address that a client on this machine uses, for a Unix socket as tools for such write it.
    pub fn url(&self) -> String {
        let path = match self {
            Self::Tcp(address) => {
                let mut address = *address;
                if address.ip().is_unspecified() {
                    address.set_ip(match address.ip() {
                        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                    });
                }
                return format!("http://{address}");
            }
            Self::Unix(path) => path,
        };
        let mut url = "http+unix://".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                    url.push(char::from(*byte));
                }
                byte => url.push_str(&format!("%{byte:02X}")),
            }
        }
        url
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Address(SocketAddr),
    /// A process of this user on this machine.
    User(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "unix:uid={uid}"),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<Sock> for Listener {
    fn from(sock: Sock) -> Self {
        Self::Unix(sock)
    }
}

impl Listener {
    /// One that another process has made and that is ours from now on, its file included.
    pub(crate) fn given(descriptor: OwnedFd, at: At) -> io::Result<Self> {
        let mut listener = Self::lent(descriptor)?;
        if let (Self::Unix(sock), At::Unix(path)) = (&mut listener, at) {
            let metadata = fs::symlink_metadata(&path).ok();
            sock.file = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
            sock.path = path;
        }
        Ok(listener)
    }

    /// One that another process has made, and whose file is that one's affair.
    pub fn lent(descriptor: OwnedFd) -> io::Result<Self> {
        use rustix::net::{AddressFamily, sockopt};
        if !sockopt::socket_acceptconn(&descriptor)? {
            return Err(io::Error::other("it is not listened on"));
        }
        match sockopt::socket_domain(&descriptor)? {
            AddressFamily::INET | AddressFamily::INET6 => {
                let listener = StdTcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            AddressFamily::UNIX => {
                let listener = StdUnixListener::from(descriptor);
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                Ok(Self::Unix(Sock {
                    listener: UnixListener::from_std(listener)?,
                    path: path.ok_or_else(|| io::Error::other("it has no path"))?,
                    file: None,
                }))
            }
            _ => Err(io::Error::other("it is neither of TCP nor a Unix socket")),
        }
    }

    /// Where it is.
    pub fn at(&self) -> io::Result<At> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(At::Tcp),
            Self::Unix(sock) => Ok(At::Unix(sock.path.clone())),
        }
    }

    /// Lets the socket's file be, when this ends: it is another's.
    pub(crate) fn leave_file(&mut self) {
        if let Self::Unix(sock) = self {
            sock.file = None;
        }
    }

    /// The next connection; of others than our user and root none comes.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let sock = match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                return Ok((Either::Left(stream), Peer::Address(peer)));
            }
            Self::Unix(sock) => sock,
        };
        loop {
            let (stream, _) = sock.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if may_connect(uid, rustix::process::geteuid().as_raw()) {
                return Ok((Either::Right(stream), Peer::User(uid)));
            }
            tracing::warn!(uid, "refused a connection of another user");
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(sock) => sock.listener.as_fd(),
        }
    }
}

/// Whether a process of the user `uid` is listened to.
pub(crate) fn may_connect(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// A Unix socket that is listened on; its file goes with it.
#[derive(Debug)]
pub struct Sock {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what has the name by then may be another's. Nothing when the file is not ours.
    file: Option<(u64, u64)>,
}

impl Sock {
    /// Listens on `path`. What a gateway that was killed has left there is replaced; one that is listened
    /// on, and what is no socket, is an error.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let unusable = |what: &dyn fmt::Display| {
            Error::user(format!("{} cannot be listened on: {what}", path.display()))
        };
        let path = std::path::absolute(path).map_err(|error| unusable(&error))?;
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            let what = format!(
                "the path is {} bytes too long for a socket",
                bytes - PATH_BYTES_MAX
            );
            return Err(unusable(&what));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        // Two that start at once do not replace each other's.
        let turn = File::open(folder).map_err(|error| unusable(&error))?;
        rustix::fs::flock(&turn, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| unusable(&"something else starts in its folder; try again"))?;
        check(&path).map_err(|what| unusable(&what))?;
        // Made beside its place, so that it has its mode before it has its name.
        let id = Uuid::new_v4().simple().to_string();
        let beside = folder.join(format!(".nb-{}", &id[..8]));
        let listener = UnixListener::bind(&beside).map_err(|error| unusable(&error))?;
        let put = fs::set_permissions(&beside, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| fs::symlink_metadata(&path));
        let metadata = put.map_err(|error| {
            drop(fs::remove_file(&beside));
            unusable(&error)
        })?;
        let file = Some((metadata.dev(), metadata.ino()));
        Ok(Self {
            listener,
            path,
            file,
        })
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        let metadata = fs::symlink_metadata(&self.path);
        let ours = |file| metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == file);
        if self.file.is_some_and(ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the socket's file stays");
        }
    }
}

/// Whether a socket can be put here, else why not.
fn check(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err("there is something that is no socket".to_owned());
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err("another process listens on it".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_ours_alone_and_goes_with_its_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nb sock");
        let sock = Sock::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let url = At::Unix(path.clone()).url();
        assert!(url.ends_with("%2Fnb%20sock"), "{url}");
        let live = Sock::bind(&path).unwrap_err().message;
        assert!(live.contains("another process listens"), "{live}");
        drop(sock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        // What was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let sock = Sock::bind(&path).unwrap();
        // Somebody else's by now: it stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(sock);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let error = Sock::bind(&path).unwrap_err().message;
        assert!(error.contains("no socket"), "{error}");
        let long = folder.path().join("x".repeat(120));
        assert!(Sock::bind(&long).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_file_of_a_socket_is_its_last_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let mut old = Listener::from(Sock::bind(&path).unwrap());
        let descriptor = old.as_fd().try_clone_to_owned().unwrap();
        let new = Listener::given(descriptor, old.at().unwrap()).unwrap();
        let lent = Listener::lent(new.as_fd().try_clone_to_owned().unwrap()).unwrap();
        old.leave_file();
        drop((old, lent));
        assert!(path.exists());
        drop(new);
        assert!(!path.exists());
        let connected = StdUnixStream::pair().unwrap().0;
        assert!(Listener::lent(connected.into()).is_err());
    }

    #[test]
    fn the_url_is_one_that_can_be_opened_here() {
        let url = |text: &str| At::Tcp(text.parse().unwrap()).url();
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.1:80"), "http://10.0.0.1:80");
    }

    #[test]
    fn our_user_and_root_may_connect() {
        assert!(may_connect(7, 7) && may_connect(0, 7));
        assert!(!may_connect(8, 7) && !may_connect(8, 0));
    }
}

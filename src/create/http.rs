//! The few HTTP requests that are made to what was started on this machine.
//!
//! HTTP/1.0, one request per connection: no chunks, no keep-alive. Knows nothing of what is asked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// More than any list of kernels.
const REPLY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A status and a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Where to ask, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) address: SocketAddr,
    pub(super) token: &'a str,
}

impl Peer<'_> {
    /// Asks and reads the whole answer, or fails after `deadline`.
    pub(super) async fn request(
        &self,
        method: &str,
        path: &str,
        deadline: Duration,
    ) -> io::Result<Reply> {
        let exchange = async {
            let Self { address, token } = self;
            let mut stream = TcpStream::connect(address).await?;
            let head = format!(
                "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: token {token}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.take(REPLY_BYTES_MAX).read_to_end(&mut bytes).await?;
            parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        tokio::time::timeout(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    let status = words.next()?.parse().ok()?;
    Some(Reply {
        status,
        body: bytes[end + 4..].to_vec(),
    })
}

/// The port of the first `http://` address in a line.
pub(super) fn port_in(line: &str) -> Option<u16> {
    let address = line.split_once("http://")?.1;
    let authority = address.split(['/', '?', ' ', '\t', '\r', '\n']).next()?;
    authority.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart_and_rubbish_is_refused() {
        let reply = parse(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n[]").unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (204, &b"[]"[..]));
        for rubbish in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(parse(rubbish), None);
        }
    }

    #[test]
    fn ports_are_found_in_what_a_server_says() {
        assert_eq!(port_in("nb: http://127.0.0.1:4711/?token=x:9"), Some(4711));
        assert_eq!(port_in("http://[::1]:80"), Some(80));
        assert_eq!(port_in("listening"), None);
        assert_eq!(port_in("http://host/"), None);
    }
}

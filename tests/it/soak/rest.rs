//! REST of a gateway that may be gone at the moment.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::gateway::{LIMIT, TOKEN};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and another one than "later".
pub(super) async fn ask(port: u16, method: &str, path: &str) -> (u16, Value) {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Ok(Some((status, body))) = timeout(LIMIT, once(port, method, path)).await
            && status != 503
        {
            return (status, body);
        }
        assert!(Instant::now() < deadline, "{method} {path} is not answered");
        sleep(PAUSE).await;
    }
}

async fn once(port: u16, method: &str, path: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {TOKEN}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}

//! HTTP by the byte over a socket: for clients that stop in the middle. Must never read ahead of
//! what a test asked for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Lets this process hold as many connections as it may; how many that is.
pub fn many_files() -> u64 {
    wal::OsDisk::raise_open_files().unwrap_or(u64::MAX)
}

/// A connection that has sent these bytes and no more; the node may have gone by then.
pub fn half(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .expect("sets");
    let _ = stream.write_all(bytes);
    stream
}

/// The status and the whole answer to a request of which these are all the bytes, over a connection
/// of its own; none where the node closed it without one.
pub fn ask(address: &str, request: &str) -> Option<(u16, String)> {
    let mut stream = half(address, request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer))
}

/// The same of a path, without anything else; the node closes after it.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    ask(address, &head)
}

/// A node that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

//! Sockets: the one that listens, and what those that it accepts are told. Must never give up a
//! connection because an option could not be set.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Listens there, with room for many who come at once.
///
/// # Errors
/// When the system refuses the address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Answers leave at once, peers that are gone are noticed, and what waits in the system for a
/// reader who takes nothing is little.
pub(crate) fn prepare(socket: &TcpStream) {
    let options = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4)
        .with_retries(4);
    let set = options
        .set_tcp_nodelay(true)
        .and_then(|()| options.set_tcp_keepalive(&keepalive))
        .and_then(|()| options.set_tcp_notsent_lowat(UNSENT));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set the options of an HTTP connection");
    }
}

/// Connections that the system holds until they are accepted, unless its own bound is less.
const BACKLOG: i32 = 4_096;

/// When a peer that says nothing is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Bytes of an answer that wait in the system beyond those on their way.
const UNSENT: u32 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_notice_a_peer_that_is_gone_and_many_may_come_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        // None of them is accepted yet.
        let mut waiting = Vec::new();
        for _ in 0..300 {
            waiting.push(std::net::TcpStream::connect(address).unwrap());
        }
        let (socket, _) = listener.accept().await.unwrap();
        prepare(&socket);
        let options = SockRef::from(&socket);
        assert!(options.keepalive().unwrap() && options.tcp_nodelay().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(options.tcp_notsent_lowat().unwrap(), UNSENT);
    }
}

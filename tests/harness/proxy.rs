//! A UDP relay between a secondary and its primary that can be cut, on loopback.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A running relay.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// Relays to `target`.
    pub fn start(target: &str) -> Self {
        let target: SocketAddr = target.parse().expect("an address");
        let front = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = front.local_addr().expect("an address");
        let (cut, stop) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (is_cut, stopped) = (Arc::clone(&cut), Arc::clone(&stop));
        std::thread::spawn(move || relay(&front, target, &is_cut, &stopped));
        Self { address, cut, stop }
    }

    /// Where the secondary connects.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Drops every packet from now on, or relays again.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn relay(front: &UdpSocket, target: SocketAddr, cut: &Arc<AtomicBool>, stop: &Arc<AtomicBool>) {
    front
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("sets");
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = front.recv_from(&mut buffer) else {
            continue;
        };
        let back = backs.entry(from).or_insert_with(|| {
            let back = UdpSocket::bind("127.0.0.1:0").expect("binds");
            let (reader, front) = (back.try_clone().expect("clones"), front.try_clone());
            let front = front.expect("clones");
            let (cut, stop) = (Arc::clone(cut), Arc::clone(stop));
            std::thread::spawn(move || answers(&reader, &front, from, &cut, &stop));
            back
        });
        if !cut.load(Ordering::Relaxed) {
            let _ = back.send_to(&buffer[..len], target);
        }
    }
}

fn answers(
    back: &UdpSocket,
    front: &UdpSocket,
    to: SocketAddr,
    cut: &AtomicBool,
    stop: &AtomicBool,
) {
    back.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("sets");
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = back.recv(&mut buffer) else {
            continue;
        };
        if !cut.load(Ordering::Relaxed) {
            let _ = front.send_to(&buffer[..len], to);
        }
    }
}

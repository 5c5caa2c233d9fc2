//! Hosts of their own on this machine: each a network namespace with one cable (a veth pair) to
//! the network of the tests, which can be pulled and whose far end can get another address.
//! Over a second one, which nobody pulls, only the tests see what becomes of the host: a node
//! must never know its addresses. Removed when dropped; those of a test that was killed are
//! removed by the next one.

use std::path::Path;
use std::process::{Command, id};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::Place;

/// One host.
#[derive(Debug)]
pub struct Host {
    name: String,
    /// First numbers of the addresses on the cable.
    subnet: String,
    /// The same of the tests' own line.
    watched: String,
    /// Last numbers of the addresses: this end of the cable, then those that the host may have.
    numbers: [u32; 3],
    moved: bool,
}

impl Host {
    /// `None`, as a test that is skipped, where this process may not make one.
    ///
    /// # Panics
    /// There, if no test may be skipped.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static TIDY: Once = Once::new();
        TIDY.call_once(remove_abandoned);
        let at = NEXT.fetch_add(1, Ordering::Relaxed) % 32;
        let first = at * 8;
        let host = Self {
            name: format!("{PREFIX}{}-{at}", id()),
            subnet: format!("10.{}.{}", 200 + (id() >> 8) % 50, id() % 256),
            watched: format!("10.{}.{}", 150 + (id() >> 8) % 50, id() % 256),
            numbers: [first + 1, first + 2, first + 3],
            moved: false,
        };
        match host.set_up() {
            Ok(()) => Some(host),
            Err(refused) => {
                crate::skip(&format!("no network namespace can be made here: {refused}"));
                None
            }
        }
    }

    /// Where a node runs that lives on this host.
    pub fn place(&self) -> Place {
        Place {
            namespace: Some(self.name.clone()),
            ..Place::default()
        }
    }

    /// The host's address now.
    pub fn address(&self) -> String {
        self.numbered(if self.moved { 2 } else { 1 })
    }

    /// Where the tests see this host, whatever becomes of its cable.
    pub fn watched(&self) -> String {
        format!("{}.{}", self.watched, self.numbers[1])
    }

    /// The address of this end of its cable.
    pub fn gateway(&self) -> String {
        self.numbered(0)
    }

    /// Pulls the cable, or plugs it in.
    pub fn plug(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        sure(&["link", "set", &self.cable(), state]);
    }

    /// Takes the host's address away and gives it the other one.
    pub fn change_address(&mut self) {
        let old = format!("{}/29", self.address());
        self.moved = !self.moved;
        let new = format!("{}/29", self.address());
        sure(&["-n", &self.name, "addr", "del", &old, "dev", "eth0"]);
        sure(&["-n", &self.name, "addr", "add", &new, "dev", "eth0"]);
    }

    fn set_up(&self) -> Result<(), String> {
        let name = self.name.as_str();
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        self.connect(&self.cable(), "eth0", &self.gateway(), &self.address())?;
        let here = format!("{}.{}", self.watched, self.numbers[0]);
        self.connect(&self.window(), "eth1", &here, &self.watched())?;
        ip(&["netns", "exec", name, "true"])
    }

    /// A line between this network and the host: interfaces and addresses of both ends.
    fn connect(&self, near: &str, far: &str, here: &str, there: &str) -> Result<(), String> {
        let name = self.name.as_str();
        let (here, there) = (format!("{here}/29"), format!("{there}/29"));
        ip(&[
            "link", "add", near, "type", "veth", "peer", "name", far, "netns", name,
        ])?;
        ip(&["addr", "add", &here, "dev", near])?;
        ip(&["link", "set", near, "up"])?;
        ip(&["-n", name, "addr", "add", &there, "dev", far])?;
        ip(&["-n", name, "link", "set", far, "up"])
    }

    fn numbered(&self, which: usize) -> String {
        format!("{}.{}", self.subnet, self.numbers[which])
    }

    /// The interface at this end.
    fn cable(&self) -> String {
        format!("{}h", self.name)
    }

    /// The interface at this end of the tests' own line.
    fn window(&self) -> String {
        format!("{}w", self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Not every part may be there.
        let _ = ip(&["link", "del", &self.cable()]);
        let _ = ip(&["link", "del", &self.window()]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Namespaces of test processes that are gone.
fn remove_abandoned() {
    let Ok(listed) = Command::new("ip").args(["netns", "list"]).output() else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    for name in names {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let owner: Option<u32> = owner.and_then(|owner| owner.parse().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("ip: {error}")),
    }
}

fn sure(arguments: &[&str]) {
    ip(arguments).expect("what was made can be changed");
}

/// With it, the process and a number, the interface's name stays within its 15 bytes.
const PREFIX: &str = "hw";

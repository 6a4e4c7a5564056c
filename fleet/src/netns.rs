//! Processes in network namespaces of their own, between which packets can be dropped.
//!
//! What a proxy can't do ([`crate::proxy`]): packets that vanish, so that nobody acknowledges,
//! resets or closes anything. Each member has a namespace that is joined by a veth pair to a bridge
//! in the namespace where the harness runs. DROP is a rule of the members' routing: what comes from there
//! leads nowhere, and nobody is told, as members forward nothing.
//!
//! It needs root, and the harness itself must run in a network namespace of its own, so that
//! nothing can leave the machine: `make faults` as root sees to both (`unshare --net`). Without
//! them there is an error which says so; no test is skipped. The namespaces go away with the
//! [`Network`]; what a killed harness left is removed by the next one.

use std::{
    fmt, io,
    net::Ipv4Addr,
    path::Path,
    process::{self, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::process::Spec;

/// All our namespaces are called so, then by the harness's pid.
const PREFIX: &str = "ringway";

/// How many members a network may have: one byte of their addresses, less the hub's.
pub const MAX_MEMBERS: u8 = 250;

/// The places of the members' routing rules: what is dropped is looked at first.
const DROPPED: &str = "10";
const LOCAL: &str = "100";

/// The first two bytes of all addresses.
const NET: [u8; 2] = [10, 77];

/// The networks of this process so far; the third byte of their addresses.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

/// Why there is no network, or no rule.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Not root, or not isolated.
    #[error(
        "network namespaces need root and a harness in a namespace of its own ({0}): run \
         `sudo make faults`"
    )]
    NotAllowed(&'static str),
    /// A command failed.
    #[error("`{command}`: {why}")]
    Command {
        /// The command line.
        command: String,
        /// What it printed, or why it did not start.
        why: String,
    },
    /// There are [`MAX_MEMBERS`].
    #[error("a network has at most {MAX_MEMBERS} members")]
    Full,
}

/// A bridge and the namespaces on it. Dropping it removes them; end their processes before.
#[derive(Debug)]
pub struct Network {
    number: u8,
    members: Vec<Namespace>,
    dropped: Mutex<Vec<(Namespace, Namespace)>>,
}

/// Where one member's processes run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
}

impl Namespace {
    /// Its address, the only one that it has beside the loopback.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The same program, to be started in here. `ip netns exec` becomes the program, so its pid is
    /// the program's and signals reach it.
    #[must_use]
    pub fn enter(&self, spec: &Spec) -> Spec {
        spec.through("ip", ["netns", "exec", &self.name])
    }

    /// Adds or deletes the rule that what comes from there is dropped.
    fn drop_from(&self, what: &str, from: Ipv4Addr) -> Result<(), NetnsError> {
        self.rule(&[what, "pref", DROPPED, "from", &from.to_string(), "blackhole"])
    }

    fn rule(&self, rule: &[&str]) -> Result<(), NetnsError> {
        ip(&[&["-n", &self.name, "rule"], rule].concat()).map(drop)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

impl Network {
    /// A bridge without members.
    ///
    /// # Errors
    /// [`NetnsError`]
    pub fn new() -> Result<Self, NetnsError> {
        allowed()?;
        sweep()?;
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        // From here on dropping it cleans up.
        let network = Self { number, members: Vec::new(), dropped: Mutex::default() };
        let (bridge, hub) = (network.bridge(), format!("{}/24", network.address(1)));
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["address", "add", &hub, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(network)
    }

    /// One more member; `name` is for people.
    ///
    /// # Errors
    /// [`NetnsError`]
    pub fn join(&mut self, name: &str) -> Result<Namespace, NetnsError> {
        let index = self.members.len() as u8;
        if index >= MAX_MEMBERS {
            return Err(NetnsError::Full);
        }
        let (number, pid) = (self.number, process::id());
        let member = Namespace {
            name: format!("{PREFIX}-{pid}-{number}-{name}"),
            address: self.address(index + 2),
        };
        let address = format!("{}/24", member.address);
        // Names of interfaces are short.
        let (outer, bridge) = (format!("rw{number}v{index}"), self.bridge());
        ip(&["netns", "add", &member.name])?;
        self.members.push(member.clone());
        let name = member.name.as_str();
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["link", "set", &outer, "master", &bridge, "up"])?;
        ip(&["-n", name, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        // As it comes, nothing is looked at before it is known that a packet is for this machine.
        member.rule(&["add", "pref", LOCAL, "lookup", "local"])?;
        member.rule(&["delete", "pref", "0"])?;
        Ok(member)
    }

    /// From now on no packet gets from one to the other, either way. Nobody is told.
    ///
    /// # Errors
    /// [`NetnsError`]
    pub fn drop_between(&self, a: &Namespace, b: &Namespace) -> Result<(), NetnsError> {
        let pair = (a.clone(), b.clone());
        let mut dropped = self.dropped();
        if dropped.contains(&pair) {
            return Ok(());
        }
        dropped.push(pair);
        a.drop_from("add", b.address)?;
        b.drop_from("add", a.address)
    }

    /// Packets get everywhere again.
    ///
    /// # Errors
    /// [`NetnsError`]
    pub fn heal(&self) -> Result<(), NetnsError> {
        for (a, b) in std::mem::take(&mut *self.dropped()) {
            a.drop_from("delete", b.address)?;
            b.drop_from("delete", a.address)?;
        }
        Ok(())
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<(Namespace, Namespace)>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bridge(&self) -> String {
        format!("rw{}", self.number)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], self.number, host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // With its namespace a veth goes, on both sides.
        let namespaces = self.members.iter().map(|member| remove(&member.name));
        let mut removed: Vec<_> = namespaces.collect();
        removed.push(ip(&["link", "delete", &self.bridge()]));
        for error in removed.into_iter().filter_map(Result::err) {
            eprintln!("a namespace was not removed: {error}");
        }
    }
}

/// Whether namespaces can be made here, and must not reach anything if they are.
fn allowed() -> Result<(), NetnsError> {
    if !rustix::process::geteuid().is_root() {
        return Err(NetnsError::NotAllowed("this is not root"));
    }
    let links = ip(&["-o", "link", "show"])?;
    if leads_out(&links) {
        return Err(NetnsError::NotAllowed("this network namespace leads out of the machine"));
    }
    Ok(())
}

/// Whether there is more among the links than the loopback and ours: lines of `ip -o link`.
fn leads_out(links: &str) -> bool {
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    names.into_iter().any(|name| name != "lo" && !name.starts_with("rw"))
}

/// Removes what harnesses that have ended left behind.
fn sweep() -> Result<(), NetnsError> {
    let list = ip(&["netns", "list"])?;
    let alive = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    for name in stale(&list, alive) {
        // Another harness may have been quicker; what can't be removed is in nobody's way.
        let _ = remove(name);
    }
    Ok(())
}

/// Our namespaces in `ip netns list` whose harness is not alive.
fn stale(list: &str, alive: impl Fn(u32) -> bool) -> Vec<&str> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let owner = |name: &str| -> Option<u32> {
        name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
    };
    names.filter(|name| owner(name).is_some_and(|pid| !alive(pid))).collect()
}

fn remove(name: &str) -> Result<String, NetnsError> {
    ip(&["netns", "delete", name])
}

fn ip(args: &[&str]) -> Result<String, NetnsError> {
    run("ip", args.iter().copied())
}

/// Runs a command to its end and returns what it printed.
fn run<'a>(program: &str, args: impl Iterator<Item = &'a str>) -> Result<String, NetnsError> {
    let args: Vec<&str> = args.collect();
    let failed =
        |why| NetnsError::Command { command: format!("{program} {}", args.join(" ")), why };
    let output = Command::new(program).args(&args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            failed("not installed: sudo apt-get install iproute2".to_owned())
        }
        _ => failed(error.to_string()),
    })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;

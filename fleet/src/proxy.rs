//! A TCP proxy that misbehaves on demand: it passes, delays, drops, cuts or blackholes.
//!
//! It stands between two processes under test: before a node, which binds 127.0.0.1:P and
//! advertises another loopback address where the proxy listens on the same port; or before etcd,
//! whose clients are told the proxy's address. Rules change at run time, for everybody or for the
//! connections of one process. It runs on a thread of its own, so that a busy test does not slow
//! down the traffic, and needs no root.
//!
//! What userland can't do is left to [`crate::netns`]: while a connection is blackholed here, the
//! kernel still acknowledges what is sent (until the buffers are full), and a new one is accepted.

mod connection;
mod owner;
mod rule;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use connection::Connection;
pub use rule::{Drops, Rule};
use rule::{Rules, reset};

/// How many connections one proxy carries; one more is reset.
pub const MAX_CONNECTIONS: usize = 4_096;

/// How long to wait when the system has no socket to give, or the port is not free yet.
const RETRY: Duration = Duration::from_millis(5);

/// A running proxy. Dropping it closes its connections and its port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    rules: watch::Sender<Rules>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What a proxy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were let in.
    pub accepted: u64,
    /// Connections that were reset at once: by a rule, or because there were too many.
    pub refused: u64,
    /// Connections that a rule reset later.
    pub broken: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Of these, those that are blackholed now.
    pub held: u64,
    /// Bytes handed to the target.
    pub to_target: u64,
    /// Bytes handed to the clients.
    pub to_client: u64,
}

/// [`Traffic`], while it happens.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    open: AtomicU64,
    held: AtomicU64,
    to_target: AtomicU64,
    to_client: AtomicU64,
}

impl Proxy {
    /// Listens at `listen` (port 0 takes any) and passes everything to `target`, which need not
    /// listen yet: a connection that can't be passed on is reset.
    ///
    /// # Errors
    /// When the address is taken, or the system gives no thread.
    pub fn start(listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = StdListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rules = watch::Sender::new(Rules::default());
        let counts = Arc::new(Counts::default());
        let stop = CancellationToken::new();
        let door = Door {
            address,
            target,
            rules: rules.subscribe(),
            counts: Arc::clone(&counts),
            connections: JoinSet::new(),
            last: 0,
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.clone();
        let thread = thread::Builder::new().name(format!("proxy {address}")).spawn(move || {
            // Dropping the runtime closes what is still open.
            runtime.block_on(stopped.run_until_cancelled(door.run(listener)));
        })?;
        Ok(Self { address, target, rules, counts, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it passes connections to.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// From now on this rule is for everybody for whose process there is none.
    pub fn set(&self, rule: Rule) {
        self.rules.send_modify(|rules| rules.everyone = rule);
    }

    /// From now on this rule is for the connections of that process, those it has and those it
    /// makes. It must run on this machine, in our network namespace and under our user.
    pub fn set_for(&self, pid: u32, rule: Rule) {
        self.rules.send_modify(|rules| {
            rules.processes.insert(pid, rule);
        });
    }

    /// Takes all rules back. What a blackhole held flows on, in order, as it would once packets
    /// are let through again: TCP would have sent it again until then.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| *rules = Rules::default());
    }

    /// What it has done so far.
    pub fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { accepted, refused, broken, open, held, to_target, to_client } = &*self.counts;
        Traffic {
            accepted: read(accepted),
            refused: read(refused),
            broken: read(broken),
            open: read(open),
            held: read(held),
            to_target: read(to_target),
            to_client: read(to_client),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Where connections come in.
struct Door {
    address: SocketAddr,
    target: SocketAddr,
    rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
    connections: JoinSet<()>,
    /// The number of the last connection.
    last: u64,
}

impl Door {
    async fn run(mut self, listener: StdListener) {
        let mut listener = TcpListener::from_std(listener).ok();
        loop {
            if self.rules.borrow_and_update().refuse_everybody() {
                // A port where nobody listens: this is what refuses.
                listener = None;
            } else if listener.is_none() {
                listener = Some(self.listen().await);
            }
            tokio::select! {
                changed = self.rules.changed() => if changed.is_err() { return },
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(client) => self.admit(client),
                    // Most likely the process has no descriptors left: some will be closed.
                    Err(_) => sleep(RETRY).await,
                },
            }
        }
    }

    /// Takes the port again. It is outside of the range for outgoing connections (see
    /// [`crate::etcd::free_address`]), so nobody has it for long.
    async fn listen(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn admit(&mut self, client: TcpStream) {
        while self.connections.try_join_next().is_some() {}
        if self.connections.len() >= MAX_CONNECTIONS {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            reset(client);
            return;
        }
        self.last += 1;
        let connection = Connection {
            number: self.last,
            client,
            target: self.target,
            rules: self.rules.clone(),
            counts: Arc::clone(&self.counts),
        };
        self.connections.spawn(connection.run());
    }
}

/// The next connection; never, without a listener.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

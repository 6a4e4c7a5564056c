//! One proxied connection: two directions, each a reader and a writer with bounded bytes between.
//!
//! A blackholed direction is neither read nor written; what it holds goes on in order when the
//! rule is taken back, and so does the end of the stream.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Counts,
    owner::Owner,
    rule::{DICE_EVERY, Rule, Rules, reset},
};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// How much one direction of a connection holds between its reader and its writer. While bytes are
/// delayed by a span, no more than this passes in each such span.
const MAX_HELD_BYTES: usize = 1 << 20;

/// A connection that was accepted.
pub(super) struct Connection {
    /// Counted from 1, in the order of arrival.
    pub(super) number: u64,
    pub(super) client: TcpStream,
    pub(super) target: SocketAddr,
    pub(super) rules: watch::Receiver<Rules>,
    pub(super) counts: Arc<Counts>,
}

/// What the rules mean to bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Flow {
    held: bool,
    to_target: Duration,
    to_client: Duration,
}

impl Flow {
    fn of(rule: Rule) -> Self {
        match rule {
            Rule::Pass | Rule::Drop(_) | Rule::Cut => Self::default(),
            Rule::Blackhole => Self { held: true, ..Self::default() },
            Rule::Delay { to_target, to_client } => Self { held: false, to_target, to_client },
        }
    }
}

/// Counts one of something for as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Carries it to its end. Dropping this closes it.
    pub(super) async fn run(self) {
        let Self { number, mut client, target, mut rules, counts } = self;
        let (Ok(peer), Ok(here)) = (client.peer_addr(), client.local_addr()) else { return };
        let owner = Owner::new(peer, here);
        let Some((rule, owner)) = rule_for(&mut rules, owner).await else { return };
        let refused = match rule {
            Rule::Cut => true,
            Rule::Drop(drops) => drops.hits_new(number),
            Rule::Pass | Rule::Delay { .. } | Rule::Blackhole => false,
        };
        if refused {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            reset(client);
            return;
        }
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        let _open = Counted::new(&counts.open);
        let flow = watch::Sender::new(Flow::of(rule));
        let mut server = None;
        let orderly = tokio::select! {
            biased;
            () = follow(rules, owner, number, &flow, &counts) => {
                counts.broken.fetch_add(1, Ordering::Relaxed);
                false
            }
            carried = carry(&mut client, &mut server, target, flow.subscribe(), &counts) => {
                carried.is_ok()
            }
        };
        if !orderly {
            [Some(client), server].into_iter().flatten().for_each(reset);
        }
    }
}

/// The rule for a connection of that owner. Who that is may have to be looked up, and the others' bytes do
/// not wait for it. `None`: the proxy stops.
async fn rule_for(rules: &mut watch::Receiver<Rules>, mut owner: Owner) -> Option<(Rule, Owner)> {
    let now = rules.borrow_and_update().clone();
    if owner.is_known() || now.are_for_everyone() {
        return Some((now.of(&mut owner), owner));
    }
    let looking = spawn_blocking(move || (now.of(&mut owner), owner));
    looking.await.ok()
}

/// Tells the directions what the rules mean to them; returns when the connection is to be reset.
async fn follow(
    mut rules: watch::Receiver<Rules>,
    mut owner: Owner,
    number: u64,
    flow: &watch::Sender<Flow>,
    counts: &Counts,
) {
    let mut throws = 0;
    loop {
        let Some((rule, known)) = rule_for(&mut rules, owner).await else { return };
        owner = known;
        if rule == Rule::Cut {
            return;
        }
        flow.send_replace(Flow::of(rule));
        let _held = (rule == Rule::Blackhole).then(|| Counted::new(&counts.held));
        tokio::select! {
            changed = rules.changed() => if changed.is_err() { return },
            () = sleep(DICE_EVERY), if matches!(rule, Rule::Drop(_)) => {
                throws += 1;
                if matches!(rule, Rule::Drop(drops) if drops.hits_existing(number, throws)) {
                    return;
                }
            }
        }
    }
}

/// Connects to the target, and carries both directions to their ends.
async fn carry(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    target: SocketAddr,
    mut flow: watch::Receiver<Flow>,
    counts: &Counts,
) -> io::Result<()> {
    unheld(&mut flow).await?;
    let server = server.insert(TcpStream::connect(target).await?);
    for stream in [&*client, &*server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = Direction { flow: flow.clone(), delay: |f| f.to_target, count: &counts.to_target };
    let back = Direction { flow, delay: |f| f.to_client, count: &counts.to_client };
    try_join(there.carry(from_client, to_server), back.carry(from_server, to_client)).await?;
    Ok(())
}

/// Waits until nothing is held.
async fn unheld(flow: &mut watch::Receiver<Flow>) -> io::Result<()> {
    flow.wait_for(|flow| !flow.held).await.map(drop).map_err(|_| stopped())
}

fn stopped() -> io::Error {
    io::Error::other("the proxy stops")
}

/// Bytes on their way; none of them is the end of the stream.
struct Chunk {
    bytes: Bytes,
    read: Instant,
    _room: OwnedSemaphorePermit,
}

/// One direction of a connection.
struct Direction<'a> {
    flow: watch::Receiver<Flow>,
    delay: fn(&Flow) -> Duration,
    count: &'a AtomicU64,
}

impl Direction<'_> {
    async fn carry(
        self,
        source: impl AsyncRead + Unpin,
        sink: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        // Bounded by the bytes in it, not by their number.
        let (sender, chunks) = mpsc::unbounded_channel();
        let reading = read(source, sender, self.flow.clone());
        try_join(reading, self.write(sink, chunks)).await?;
        Ok(())
    }

    async fn write(
        mut self,
        mut sink: impl AsyncWrite + Unpin,
        mut chunks: mpsc::UnboundedReceiver<Chunk>,
    ) -> io::Result<()> {
        while let Some(chunk) = chunks.recv().await {
            self.wait_for_its_time(chunk.read).await?;
            if chunk.bytes.is_empty() {
                break;
            }
            sink.write_all(&chunk.bytes).await?;
            self.count.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        }
        sink.shutdown().await
    }

    async fn wait_for_its_time(&mut self, read: Instant) -> io::Result<()> {
        loop {
            let flow = *self.flow.borrow_and_update();
            let due = read + (self.delay)(&flow);
            if !flow.held && due <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                changed = self.flow.changed() => changed.map_err(|_| stopped())?,
                () = sleep_until(due), if !flow.held => {}
            }
        }
    }
}

async fn read(
    mut source: impl AsyncRead + Unpin,
    chunks: mpsc::UnboundedSender<Chunk>,
    mut flow: watch::Receiver<Flow>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_HELD_BYTES));
    let mut buffer = BytesMut::new();
    loop {
        unheld(&mut flow).await?;
        buffer.reserve(CHUNK_BYTES);
        let bytes = (&mut source).take(CHUNK_BYTES as u64).read_buf(&mut buffer).await?;
        let read = Instant::now();
        let room = Arc::clone(&room).acquire_many_owned(bytes as u32).await;
        let chunk =
            Chunk { bytes: buffer.split().freeze(), read, _room: room.map_err(|_| stopped())? };
        // The writer lives as long as this.
        if chunks.send(chunk).is_err() || bytes == 0 {
            return Ok(());
        }
    }
}

//! Many large bodies at a time: a gateway holds what it may, refuses the others, and takes no more
//! memory than that.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually,
    memory::peak,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

const MIB: usize = 1 << 20;
/// What the gateway may hold: the least that can be set.
const BUDGET: usize = 64 * MIB;
/// Bodies of 1 MiB that come at the same time.
const BODIES: usize = 500;
/// What the process may grow by for other reasons: what links hold of a value on its way, and the
/// buffers of so many connections.
const OTHER: usize = 48 * MIB;
/// How soon all of them are either read or refused.
const SORTED_WITHIN: Duration = Duration::from_secs(2);

/// Sends all of a body but its last byte, and that when it is told to; the status of the answer,
/// whenever it comes. `refused` counts those that come before.
async fn put(
    gateway: SocketAddr,
    n: usize,
    body: Arc<[u8]>,
    go: Arc<Semaphore>,
    refused: Arc<AtomicUsize>,
) -> u16 {
    let stream = TcpStream::connect(gateway).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let answer = async {
        let mut head = [0; 12];
        reader.read_exact(&mut head).await.unwrap();
        let status: u16 = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
        if status == 503 {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        status
    };
    let sending = async {
        let head = format!("PUT /api/cache/default/body-{n} HTTP/1.1\r\nHost: x\r\n");
        let head = format!("{head}Content-Length: {MIB}\r\n\r\n");
        // Whoever is refused may find that nobody reads any more.
        let _ = writer.write_all(head.as_bytes()).await;
        let _ = writer.write_all(&body[1..]).await;
        go.acquire().await.unwrap().forget();
        let _ = writer.write_all(b"x").await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = answer => status,
        () = sending => unreachable!("it waits for the answer"),
    }
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_and_take_no_memory() {
    let budget = ("RINGWAY_GATEWAY__MAX_BODY_BYTES_IN_FLIGHT", format!("{}MiB", BUDGET / MIB));
    let gateway = Extras::default()
        .env(budget.0, budget.1)
        // What was refused half way is given back at once: what is judged is what the gateway holds, not
        // when its allocator gets round to it.
        .env("MIMALLOC_PURGE_DELAY", "0")
        // All that is held goes to one node at the same time.
        .env("RINGWAY_GATEWAY__TRY_TIMEOUT", "20s")
        .env("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "20s");
    let plan = Plan { nodes: 1, gateway, ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let gateway = cluster.gateway(0);
    let before = peak(gateway.process().id()).unwrap() as usize;
    let (go, refused) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let body: Arc<[u8]> = vec![b'x'; MIB].into();
    let mut bodies = JoinSet::new();
    for n in 0..BODIES {
        let (body, go, refused) = (Arc::clone(&body), Arc::clone(&go), Arc::clone(&refused));
        bodies.spawn(put(gateway.address(), n, body, go, refused));
    }
    let held = eventually("every body is held or refused", SORTED_WITHIN, async || {
        let held = gateway.metric("ringway_gateway_body_bytes").await? as usize;
        let refused = refused.load(Ordering::Relaxed);
        let sorted = held.is_multiple_of(MIB) && held / MIB + refused == BODIES;
        if sorted { Ok(held) } else { Err(format!("{held} bytes held, {refused} refused")) }
    })
    .await;
    assert!((BUDGET / 2..=BUDGET).contains(&held), "{held} bytes held");
    go.add_permits(BODIES);
    let answers = bodies.join_all().await;
    let grew = (peak(gateway.process().id()).unwrap() as usize).saturating_sub(before);
    let stored = answers.iter().filter(|&&status| status == 201).count();
    eprintln!("{stored} of {BODIES} bodies of 1 MiB stored; {} MiB more at the peak", grew / MIB);
    assert_eq!(stored, held / MIB, "what was held is stored: {answers:?}");
    assert_eq!(answers.iter().filter(|&&status| status == 503).count(), BODIES - stored);
    assert!(grew < BUDGET + OTHER, "grew by {grew} bytes");
    eventually("nothing is held any more", SORTED_WITHIN, async || {
        let held = gateway.metric("ringway_gateway_body_bytes").await?;
        if held == 0.0 { Ok(()) } else { Err(format!("{held} bytes")) }
    })
    .await;
    let shed = gateway.metric("ringway_gateway_shed_total{reason=\"bytes\"}").await.unwrap();
    assert!(shed > 0.0);
}

//! A node inside a program, whose group loads what is missing with the program's own code.
//!
//! `cargo run -p cachenode --example library`
//!
//! The "database" takes 300 ms. The first reader waits for it, the second does not, and 200 readers of
//! another key that come at the same time make one query.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cachenode::{
    Node,
    group::Definition,
    origin::{Asked, LoadError, Loaded, OriginDefinition},
};
use common::{
    clock::{Clock, SystemClock},
    config::Settings,
    discovery::{DEFAULT_LEASE_TTL, GrpcProber, MemoryRegistry, RegistrationState, WantedRing},
    lifecycle::Lifecycle,
};
use proto::v1::{GetRequest, cache_client::CacheClient};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

static QUERIES: AtomicUsize = AtomicUsize::new(0);

/// What a slow database would answer.
async fn query(name: String) -> Result<Option<Loaded>, LoadError> {
    QUERIES.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let score =
        [("Tom", "630"), ("Jack", "589"), ("Sam", "567")].into_iter().find(|it| it.0 == name);
    Ok(score.map(|(_, score)| Loaded::from(score)))
}

/// Reads a key as any client in any language would.
async fn get(mut node: CacheClient<Channel>, key: &str) -> Result<Option<String>, tonic::Status> {
    let request = GetRequest { group: "scores".into(), key: key.into() };
    match node.get(request).await {
        Ok(answer) => Ok(Some(String::from_utf8_lossy(&answer.into_inner().value).into_owned())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let scores = Definition {
        capacity: 16 << 20,
        ttl: Duration::from_secs(60),
        origin: OriginDefinition::Asked(Asked::new(query)),
        ..Definition::new("scores".parse()?)
    };
    // One node that nobody else has to find; with an `EtcdDiscovery` it is a member of a cluster.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registry = MemoryRegistry::new(Arc::clone(&clock), DEFAULT_LEASE_TTL);
    let discovery = Arc::new(registry.join(&WantedRing::default(), Arc::new(GrpcProber)));
    let mut settings = Settings::default();
    (settings.node.port, settings.node.http_port) = (0, Some(0));
    let lifecycle = Lifecycle::new(settings.node.drain_timeout);
    let node = Node::start_with(&settings, vec![scores], discovery, clock, &lifecycle).await?;
    node.registration()
        .state()
        .wait_for(|state| matches!(state, RegistrationState::Registered { .. }))
        .await?;

    let client = CacheClient::connect(format!("http://{}", node.grpc_address())).await?;
    for key in ["Tom", "Tom", "nobody"] {
        let started = Instant::now();
        let value = get(client.clone(), key).await?;
        println!("{key}: {value:?} in {} ms", started.elapsed().as_millis());
    }
    let before = QUERIES.load(Ordering::SeqCst);
    let (started, mut readers) = (Instant::now(), JoinSet::new());
    for _ in 0..200 {
        readers.spawn(get(client.clone(), "Jack"));
    }
    let answers = readers.join_all().await;
    let right = answers.into_iter().filter(|it| matches!(it, Ok(Some(value)) if value == "589"));
    println!(
        "Jack, asked by 200 at once: {} right answers, {} query, {} ms",
        right.count(),
        QUERIES.load(Ordering::SeqCst) - before,
        started.elapsed().as_millis()
    );
    lifecycle.stop().soft.cancel();
    lifecycle.run_until_stopped().await;
    Ok(())
}

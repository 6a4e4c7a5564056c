//! A node or a gateway goes, politely or not.

use std::time::Duration;

use fleet::{
    cluster::{Cluster, Plan, key_path},
    eventually,
    process::Signal,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{calm, keys, load, under_load};

/// A process exits with 0 only if it drained in time; this is for the slowest machine.
const EXIT_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn sigterm_takes_a_node_out_without_a_failed_request() {
    under_load(async || {
        let cluster = Cluster::start(Plan { gateways: 2, ..Plan::default() }).await.unwrap();
        let running = load(&cluster, &keys(200)).await;
        let leaver = cluster.node(2);
        let id = leaver.address().to_string();
        leaver.signal(Signal::TERM).unwrap();
        eventually("the node out of /api/nodes", Duration::from_secs(1), async || {
            cluster.gateway(0).nodes().await.is_ok_and(|nodes| nodes.find(&id).is_none())
        })
        .await;
        let status = leaver.process().wait(EXIT_WITHIN).await.unwrap();
        assert!(status.success(), "{status}");
        cluster.wait_ready().await;
        calm().await;
        running.stop().await.assert_none_failed("a node was asked to stop");
    })
    .await;
}

#[tokio::test]
async fn writes_for_a_dead_owner_are_taken_by_the_next_node_for_a_short_while() {
    // The lease holds for the whole test: the dead node stays the owner.
    let plan = Plan::default().lease_ttl(Duration::from_secs(30));
    let cluster = Cluster::start(plan).await.unwrap();
    let gateway = cluster.gateway(0);
    let dead = cluster.node(0).address().to_string();
    let keys = keys(60);
    let owners = cluster.owners(0, "default", &keys).await.unwrap();
    cluster.node(0).kill();

    let orphans: Vec<_> = keys.iter().zip(&owners).filter(|(_, owner)| **owner == dead).collect();
    assert!(orphans.len() > 5, "{owners:?}");
    for (key, _) in orphans {
        let path = format!("{}&ttl=1h", key_path("default", key));
        let stored = fleet::http::put(gateway.address(), &path, "stand-in").await.unwrap();
        assert_eq!(stored.status, 201, "{}", stored.text());
        let found = gateway.read("default", key).await.unwrap();
        assert_eq!((found.status, found.text().as_str()), (200, "stand-in"), "{key}");
        let max_age = found.header("cache-control").and_then(|it| it.strip_prefix("max-age="));
        let max_age: u64 = max_age.expect("a stand-in's entry expires").parse().unwrap();
        assert!(max_age <= 10, "{max_age}");
    }
    let nodes = gateway.nodes().await.unwrap();
    assert!(nodes.find(&dead).is_some(), "the lease is not over yet");
}

#[tokio::test]
async fn a_stopped_process_is_passed_over_and_back_when_it_goes_on() {
    under_load(async || {
        let plan = Plan::default().lease_ttl(Duration::from_secs(30));
        let cluster = Cluster::start(plan).await.unwrap();
        let running = load(&cluster, &keys(200)).await;
        let id = cluster.node(1).address().to_string();
        let health = async |wanted: &str| {
            let nodes = cluster.gateway(0).nodes().await.map_err(|error| error.to_string())?;
            let health = nodes.find(&id).map(|node| node.health.clone());
            if health.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{health:?}")) }
        };
        cluster.node(1).signal(Signal::STOP).unwrap();
        eventually("it is ejected", Duration::from_secs(1), async || health("ejected").await).await;
        calm().await;
        cluster.node(1).signal(Signal::CONT).unwrap();
        eventually("it is called again", Duration::from_secs(3), async || health("healthy").await)
            .await;
        calm().await;
        running.stop().await.assert_none_failed("a node stood still");
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_what_it_has_begun() {
    let cluster = Cluster::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let gateway = cluster.gateway(0);
    // Requests that have certainly begun: each was told to go on with its body.
    let mut begun = Vec::new();
    for n in 0..8 {
        begun.push(Upload::begin(gateway.address(), n).await);
    }
    gateway.signal(Signal::TERM).unwrap();
    let process = gateway.process();
    process.wait_for_line("draining", EXIT_WITHIN, |line| line.contains("draining")).await.unwrap();
    eventually("the listener is closed", Duration::from_secs(1), async || {
        TcpStream::connect(gateway.address()).await.is_err()
    })
    .await;
    for upload in begun {
        let answer = upload.finish().await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer:?}");
    }
    let status = process.wait(EXIT_WITHIN).await.unwrap();
    assert!(status.success(), "{status}");
}

/// A PUT whose body comes in two halves.
struct Upload(BufReader<TcpStream>);

impl Upload {
    async fn begin(gateway: std::net::SocketAddr, n: usize) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(gateway).await.unwrap());
        let path = key_path("default", &format!("upload-{n}"));
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("HTTP/1.1 100 "), "{line:?}");
        stream.read_line(&mut line).await.unwrap();
        stream.write_all(b"01234").await.unwrap();
        Self(stream)
    }

    /// Sends the rest and returns the whole answer, up to the end of the connection.
    async fn finish(mut self) -> String {
        self.0.write_all(b"56789").await.unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

//! What is asked of every origin alike.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use fleet::{
    cluster::Cluster,
    eventually, http, metrics,
    process::{Process, Spec, binary},
};
use tokio::task::JoinSet;

use crate::api::query;

/// Keys that mean something to somebody.
pub(crate) const HOSTILE: [&str; 11] = [
    "../../etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/etc/passwd",
    "//host/x",
    "..",
    "a\0b",
    "a\r\nb",
    "http://127.0.0.1/x",
    "..\\..\\x",
    "'; DROP TABLE users; --",
    "' OR '1'='1",
];

/// How soon many readers have come in.
const IN_FLIGHT_WITHIN: Duration = Duration::from_secs(3);

/// Waits until the gateways have so many requests under way.
pub(crate) async fn all_wait(gateways: &[SocketAddr], readers: usize) {
    eventually("all readers wait", IN_FLIGHT_WITHIN, async || {
        let mut waiting = 0;
        for gateway in gateways {
            let page = http::get(gateway, "/metrics").await.map_err(|error| error.to_string())?;
            let value = metrics::value(&page.text(), "ringway_gateway_in_flight");
            waiting += value.unwrap_or_default() as usize;
        }
        if waiting >= readers { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
}

/// Asks for a key that nobody holds at every gateway at once: all get the value, from one load.
pub(crate) async fn once_for_all(cluster: &Cluster, group: &str, key: &str, value: &str) {
    const READERS: usize = 200;
    let before = loads(cluster, group).await;
    let gateways = cluster.gateway_addresses();
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let (gateway, target) = (gateways[n % gateways.len()], query(group, key));
        readers.spawn(async move { http::get(gateway, &target).await.unwrap() });
    }
    for answer in readers.join_all().await {
        assert_eq!((answer.status, answer.text().as_str()), (200, value), "{key}");
    }
    assert_eq!(loads(cluster, group).await - before, 1, "loads of {key}");
}

/// What a node with that configuration says when it does not start.
pub(crate) async fn refusal(config: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ringway.toml");
    std::fs::write(&file, config).unwrap();
    let spec = Spec::new("node", binary("cachenode").unwrap())
        .env("RINGWAY_TEST_RAW", "Xk9?vT2mQ")
        .args(["--node-port=0", "--http-port=0", "--config"])
        .arg(&file);
    let node = Process::start(&spec, dir.path()).unwrap();
    assert!(!node.wait(Duration::from_secs(10)).await.unwrap().success());
    node.lines().join("\n")
}

/// How often the nodes have loaded a value, by their metrics.
pub(crate) async fn loads(cluster: &Cluster, group: &str) -> usize {
    let nodes: HashSet<SocketAddr> = cluster.nodes().iter().map(|node| node.probes()).collect();
    let mut sum = 0;
    for node in nodes {
        let page = http::get(node, "/metrics").await.unwrap().text();
        let name = format!("ringway_group_loads_total{{group=\"{group}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        sum += line.unwrap_or_else(|| panic!("no {name}: {page}")).parse::<usize>().unwrap();
    }
    sum
}

//! Purges and load tokens, with etcd and real processes: three nodes, two gateways with near caches.
#![allow(clippy::unwrap_used)]

#[path = "purge/purging.rs"]
mod purging;
#[path = "purge/tokens.rs"]
mod tokens;

use fleet::{
    cluster::{Cluster, Extras, Plan},
    http::{self, Response},
};

/// Three nodes and two gateways, which go by this configuration.
async fn cluster(config: &str) -> Cluster {
    let (node, gateway) = (Extras::default().config(config), Extras::patient().config(config));
    let plan = Plan { gateways: 2, node, gateway, ..Plan::default() };
    Cluster::start(plan).await.unwrap()
}

/// Asks one of the gateways.
async fn send(
    cluster: &Cluster,
    gateway: usize,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let address = cluster.gateway(gateway).address();
    http::request(address, method, path, headers, body.to_owned()).await.unwrap()
}

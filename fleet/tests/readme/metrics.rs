//! The table of metrics in docs/operations.md, compared with what `/metrics` says.

use std::{collections::BTreeSet, net::SocketAddr};

use fleet::{
    http,
    local::{LocalFleet, Plan},
};

use crate::read;

/// The metrics that the table has of a server (`gateway` or `node`).
fn documented(document: &str, server: &str) -> BTreeSet<String> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `ringway_"));
    rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let of = cells.next()?;
        (of == server || of == "both").then(|| format!("ringway_{name}"))
    })
    .collect()
}

/// The metrics in OpenMetrics text, by the names under which Prometheus knows them.
fn exposed(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split_once(' '))
        .map(
            |(name, kind)| {
                if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
            },
        )
        .collect()
}

async fn metrics_at(address: SocketAddr) -> BTreeSet<String> {
    exposed(&http::get(address, "/metrics").await.unwrap().text())
}

#[tokio::test]
async fn the_table_of_metrics_has_all_of_them_and_no_others() {
    let table = read("docs/operations.md");
    let fleet = LocalFleet::start(Plan { nodes: 1, ..Plan::default() }).await.unwrap();
    let node = fleet.nodes().next().unwrap().http_address();
    assert_eq!(documented(&table, "gateway"), metrics_at(fleet.gateway()).await, "gateway");
    assert_eq!(documented(&table, "node"), metrics_at(node).await, "node");
    fleet.stop().await;
}

#[test]
fn names_are_read_off_both() {
    let table = "| metric | of |\n|---|---|\n| `ringway_a_total` | both | x |\n| `ringway_b` | node | y |\n";
    assert_eq!(documented(table, "gateway"), BTreeSet::from(["ringway_a_total".to_owned()]));
    let text = "# HELP ringway_a A.\n# TYPE ringway_a counter\nringway_a_total 1\n# TYPE ringway_b gauge\n";
    assert_eq!(exposed(text), documented(table, "node"));
}

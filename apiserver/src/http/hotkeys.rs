//! `GET /api/hotkeys`: what is hot here, and by whom it is held.
//!
//! What this gateway's workers hold, by how often they are read here, and what the nodes have lent to
//! anybody. Rates are estimates; keys that are hot and not held (of groups with `near = false`, or too
//! large) are not shown.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::discovery::NodeId;
use proto::v1::{LentKey, LoansRequest, cache_client::CacheClient};
use serde::Serialize;

use super::AppState;
use crate::{
    members::{Answers, ask_each},
    near::HotKey,
};

/// Keys shown, at most.
const MAX_SHOWN: usize = 100;

#[derive(Serialize)]
struct HotKeys {
    count: usize,
    keys: Vec<Shown>,
    /// Nodes that did not answer: their loans are not shown.
    missing: Vec<NodeId>,
}

#[derive(Debug, Serialize)]
struct Shown {
    group: String,
    key: String,
    /// Reads through this gateway, about; 0 for a key that only others hold.
    reads_per_second: f64,
    owner: String,
    /// Workers of this gateway that hold it.
    held: u32,
    /// Workers of all gateways to which the owner has lent it.
    loans: u32,
}

/// The handler.
pub(super) async fn list(State(worker): AppState) -> Response {
    let _survey = match worker.process.survey() {
        Ok(survey) => survey,
        Err(error) => return worker.refuse(&error),
    };
    let topology = worker.cache.topology();
    let ask = |mut node: CacheClient<_>| async move { node.loans(LoansRequest { limit: 0 }).await };
    let Answers { given, missing } = ask_each(topology.members(), ask).await;
    let lent = given.into_iter().map(|(id, loans)| (id.to_string(), loans.keys)).collect();
    let held = worker.process.nears.iter().flat_map(|near| near.hot_keys());
    let keys = merged(held, lent);
    Json(HotKeys { count: keys.len(), keys, missing }).into_response()
}

/// One row a key, the most read first.
fn merged(held: impl Iterator<Item = HotKey>, lent: Vec<(String, Vec<LentKey>)>) -> Vec<Shown> {
    let mut rows = BTreeMap::new();
    for HotKey { group, key, owner, reads_per_second } in held {
        let row = rows.entry((group, key)).or_insert((owner, 0.0, 0, 0));
        row.1 += reads_per_second;
        row.2 += 1;
    }
    for (owner, keys) in lent {
        for LentKey { group, key, holders } in keys {
            rows.entry((group, key)).or_insert((owner.clone(), 0.0, 0, 0)).3 += holders;
        }
    }
    let shown = |((group, key), (owner, reads, held, loans)): (_, (_, f64, _, _))| {
        let reads_per_second = (reads * 10.0).round() / 10.0;
        Shown { group, key, reads_per_second, owner, held, loans }
    };
    let mut rows: Vec<_> = rows.into_iter().map(shown).collect();
    let by = |row: &Shown| (row.reads_per_second, row.loans);
    rows.sort_by(|a, b| by(b).partial_cmp(&by(a)).unwrap_or(std::cmp::Ordering::Equal));
    rows.truncate(MAX_SHOWN);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_loans_of_a_key_are_added_up() {
        let held = |key: &str, reads_per_second| HotKey {
            group: "g".to_owned(),
            key: key.to_owned(),
            owner: "n1".to_owned(),
            reads_per_second,
        };
        let lent = |key: &str, holders| LentKey { group: "g".into(), key: key.into(), holders };
        let rows = merged(
            [held("warm", 10.0), held("hot", 40.0), held("hot", 60.04)].into_iter(),
            vec![("n1".to_owned(), vec![lent("hot", 4)]), ("n2".to_owned(), vec![lent("else", 2)])],
        );
        let row = |row: &Shown| (row.key.clone(), row.reads_per_second, row.held, row.loans);
        let rows: Vec<_> = rows.iter().map(row).collect();
        let expected = [("hot", 100.0, 2, 4), ("warm", 10.0, 1, 0), ("else", 0.0, 0, 2)]
            .map(|(key, reads, held, loans)| (key.to_owned(), reads, held, loans));
        assert_eq!(rows, expected);
    }
}

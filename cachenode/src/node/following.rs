//! Following the groups of the cluster state.
//!
//! For each name the state has the last word: a record says what the group is, or that it was deleted.
//! Of names that it does not know, this process's own definitions hold. Groups that a program brought
//! along are its own in any case: nobody else has their origins.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    config::GroupSettings,
    discovery::{GroupRecord, GroupRecords},
    key::GroupName,
};
use tokio_util::sync::CancellationToken;

use super::definitions::defined;
use crate::{
    group::{Definition, Group},
    groups::Wanted,
    grpc::NodeService,
};

/// What was made of records so far, so that an origin is not made anew because a ttl has changed.
#[derive(Default)]
struct Made(BTreeMap<GroupName, (GroupSettings, Definition)>);

impl Made {
    fn definition(&mut self, name: &GroupName, settings: &GroupSettings) -> Definition {
        let before = self.0.get(name);
        // The origin reads no more of a value than fits.
        let has_same_origin = before.is_some_and(|(before, _)| {
            before.origin == settings.origin && before.max_value == settings.max_value
        });
        let definition = match before {
            Some((same, made)) if same == settings => made.clone(),
            Some((_, made)) if has_same_origin => {
                let without = GroupSettings { origin: None, ..settings.clone() };
                Definition { origin: made.origin.clone(), ..defined(name, &without) }
            }
            _ => defined(name, settings),
        };
        self.0.insert(name.clone(), (settings.clone(), definition.clone()));
        definition
    }

    /// What there is to be by these records, and by what is `local`.
    fn wanted(
        &mut self,
        local: &BTreeMap<GroupName, Wanted>,
        records: &GroupRecords,
    ) -> Vec<Wanted> {
        self.0.retain(|name, _| records.contains_key(name));
        let is_own = |name: &GroupName| local.get(name).is_some_and(|it| it.is_own);
        let silent = |name: &GroupName| !records.contains_key(name);
        let mut wanted: Vec<_> =
            local.values().filter(|it| it.is_own || silent(&it.definition.name)).cloned().collect();
        for (name, record) in records.iter().filter(|(name, _)| !is_own(name)) {
            let GroupRecord { id, revision, ref definition } = **record;
            let Some(group) = definition else { continue };
            let definition = self.definition(name, &group.settings);
            wanted.push(Wanted { definition, id, revision, is_own: false });
        }
        wanted
    }
}

/// Takes on the groups of each state of the cluster, until the node has stopped serving.
pub(super) async fn follow_groups(
    node: Arc<NodeService>,
    local: Arc<BTreeMap<GroupName, Wanted>>,
    stop: CancellationToken,
) {
    let mut changes = node.route.topologies.changes();
    let mut last: Option<Arc<GroupRecords>> = None;
    let mut made = Made::default();
    loop {
        changes.mark_unchanged();
        let records = Arc::clone(node.route.topologies.load().groups());
        if last.as_ref() != Some(&records) {
            let (taking, local, now) = (Arc::clone(&node), Arc::clone(&local), records.clone());
            // It may look at every entry, and opens what origins need.
            let taken = tokio::task::spawn_blocking(move || {
                let wanted = made.wanted(&local, &now);
                let to_move = taking.groups.take_on(wanted);
                (made, to_move)
            });
            let Ok((kept, to_move)) = taken.await else {
                tracing::error!(node_id = %node.id, "the groups can't be taken on");
                return;
            };
            made = kept;
            node.unknown.took_on(&records);
            to_move.into_iter().for_each(move_entries);
            last = Some(records);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

fn move_entries(group: Arc<Group>) {
    tokio::task::spawn_blocking(move || {
        group.move_entries();
        tracing::info!(group = %group.name(), "the group's entries have been moved");
    });
}

#[cfg(test)]
mod tests {
    use common::config::{GroupDefinition, Keys};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::origin::OriginDefinition;

    fn name(name: &str) -> GroupName {
        GroupName::new(name).unwrap()
    }

    fn record(table: serde_json::Value) -> Arc<GroupRecord> {
        let keys: Keys = table.as_object().unwrap().clone();
        let definition = GroupDefinition::read(&name("g"), &keys, "test").unwrap();
        Arc::new(GroupRecord { id: Uuid::from_u128(1), revision: 7, definition: Some(definition) })
    }

    fn local(names: [&str; 3]) -> BTreeMap<GroupName, Wanted> {
        let wanted = |it: &str| (name(it), Wanted::from(Definition::new(name(it))));
        let mut local = BTreeMap::from(names.map(wanted));
        local.get_mut("own").unwrap().is_own = true;
        local
    }

    #[test]
    fn the_cluster_state_has_the_last_word_but_for_what_a_program_brought() {
        let local = local(["own", "configured", "deleted"]);
        let deleted = GroupRecord { definition: None, ..GroupRecord::clone(&record(json!({}))) };
        let records = GroupRecords::from([
            (name("own"), record(json!({"ttl": "1s"}))),
            (name("made"), record(json!({"ttl": "2s"}))),
            (name("deleted"), Arc::new(deleted)),
        ]);
        let mut wanted = Made::default().wanted(&local, &records);
        wanted.sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        let names: Vec<_> = wanted.iter().map(|it| it.definition.name.as_str()).collect();
        assert_eq!(names, ["configured", "made", "own"]);
        assert_eq!((wanted[1].revision, wanted[1].definition.ttl.as_secs()), (7, 2));
        assert_eq!((wanted[2].id, wanted[2].definition.ttl.as_secs()), (Uuid::nil(), 0));
    }

    #[test]
    fn an_origin_is_made_anew_only_if_it_is_another_one() {
        let mut made = Made::default();
        let url = |url: &str| json!({"kind": "http", "url": url});
        let definition = |made: &mut Made, table: serde_json::Value| {
            made.definition(&name("g"), &record(table).definition.as_ref().unwrap().settings)
        };
        let first = definition(&mut made, json!({"origin": url("http://127.0.0.1:1/{key}")}));
        let same = json!({"origin": url("http://127.0.0.1:1/{key}"), "ttl": "5s"});
        let same = definition(&mut made, same);
        assert_eq!((same.origin == first.origin, same.ttl.as_secs()), (true, 5));
        let other = definition(&mut made, json!({"origin": url("http://127.0.0.1:2/{key}")}));
        assert!(other.origin != first.origin);
    }

    #[tokio::test]
    async fn an_origin_that_can_not_be_had_here_fails_and_says_why() {
        let headers = json!({"Authorization": "Bearer ${RINGWAY_TEST_NOT_SET}"});
        let origin = json!({"kind": "http", "url": "http://h/{key}", "headers": headers});
        let record = record(json!({"ttl": "3s", "origin": origin}));
        let definition = defined(&name("g"), &record.definition.as_ref().unwrap().settings);
        assert_eq!(definition.ttl.as_secs(), 3);
        let OriginDefinition::Asked(asked) = definition.origin else { panic!("no origin") };
        let error = asked.origin.load("k".into()).await.unwrap_err().to_string();
        assert!(error.contains("RINGWAY_TEST_NOT_SET"), "{error}");
    }
}

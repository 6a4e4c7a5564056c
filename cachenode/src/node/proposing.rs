//! Making the groups of a node's configuration cluster state.
//!
//! Once, at its start: a group that is not there is made; of one that is there as something else the
//! cluster's definition wins, and in what they differ is said. `node.apply_groups` makes it the other
//! way round, on purpose.

use std::{collections::BTreeMap, time::Duration};

use common::{
    config::GroupDefinition,
    discovery::GroupRecord,
    error::Code,
    key::GroupName,
    topology::{Topologies, When},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Proposes each of these groups, until all are cluster state or the node stops.
pub(super) async fn propose_groups(
    topologies: Topologies,
    configured: BTreeMap<GroupName, GroupDefinition>,
    apply: bool,
    stop: CancellationToken,
) {
    let proposing = async {
        // The cluster has to be known: nothing is written by guess.
        let mut changes = topologies.changes();
        let _ = changes.wait_for(|epoch| !epoch.generation.is_nil()).await;
        let mut left: Vec<_> = configured.iter().collect();
        loop {
            // One that can't be written keeps none of the others back.
            let mut again = Vec::new();
            for (name, definition) in left {
                if !propose(&topologies, name, definition, apply).await {
                    again.push((name, definition));
                }
            }
            if again.is_empty() {
                return;
            }
            left = again;
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = proposing => stop.cancelled().await,
    }
}

/// True: there is nothing more to do.
async fn propose(
    topologies: &Topologies,
    name: &GroupName,
    ours: &GroupDefinition,
    apply: bool,
) -> bool {
    let when = When { if_absent: !apply, ..When::default() };
    if !apply && let Some(there) = topologies.load().group(name.as_str()) {
        compare(name, ours, there);
        return true;
    }
    match topologies.put_group(name, ours, &when).await {
        Ok(defined) => {
            let revision = defined.record.revision;
            tracing::info!(group = %name, revision, "the group of this file is cluster state");
            true
        }
        // Somebody was first: the next try looks at what is there.
        Err(error) if error.code() == Code::PreconditionFailed => false,
        // Each process goes by its own file.
        Err(error) if error.code() == Code::Unsupported => true,
        Err(error) => {
            tracing::warn!(group = %name, %error, "the group can't be written to the cluster state");
            false
        }
    }
}

fn compare(name: &GroupName, ours: &GroupDefinition, there: &GroupRecord) {
    let Some(theirs) = &there.definition else {
        tracing::warn!(
            group = %name,
            "the group was deleted in the cluster, whatever this file says; --apply-groups makes it \
             again"
        );
        return;
    };
    let differences = theirs.differences(ours);
    if !differences.is_empty() {
        let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
        let differences = differences.join(", ");
        tracing::warn!(
            group = %name, %differences,
            "the cluster's definition of the group is not this file's, and wins; --apply-groups \
             replaces it"
        );
    }
}

//! Groups that are not known here as their sender knows them.
//!
//! A group that somebody has just made, or changed, may be asked for before this node has heard of it.
//! So whoever brings a name, an id or a revision that is new here makes it read the cluster state, one
//! for all and not too often, and the operation is done by what that brought.

use std::{sync::Arc, time::Duration};

use common::{
    discovery::GroupRecords,
    error::{Code, Error},
    topology::Topology,
};
use proto::v1;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout_at},
};
use uuid::Uuid;

use super::{
    NodeService,
    operation::{Failure, Later},
    ownership::Refusal,
};
use crate::groups::{GroupMap, Served};

/// How often the cluster state is read for names that nobody here has heard of. Who comes in between
/// waits for the next time: the group may have been made since the last.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether a group was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Not since it was asked for.
    NotYet,
    /// What is known here is as of a later moment.
    Yes,
    /// The cluster state can't be read now.
    InVain,
}

/// What of the groups in the cluster state this node goes by.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    taken_on: watch::Sender<Arc<GroupRecords>>,
    last: Mutex<Option<Instant>>,
}

impl Unknown {
    /// The node goes by these from now on.
    pub(crate) fn took_on(&self, records: &Arc<GroupRecords>) {
        self.taken_on.send_replace(Arc::clone(records));
    }
}

/// The group that a request means.
pub(super) fn find<'a>(
    groups: &'a GroupMap,
    request: &v1::Request,
    looked: Looked,
) -> Result<&'a Served, Failure> {
    let id = Uuid::from_u64_pair(request.group_id_hi, request.group_id_lo);
    let served = groups.get(&request.group);
    let is_meant = |served: &&Served| id == served.id || id.is_nil() || served.id.is_nil();
    let is_new = |served: &Served| request.group_revision > served.revision;
    match served {
        // Without an id it is this node's alone, and nobody can know it better.
        Some(served) if is_meant(&served) => {
            let may_be_newer = !served.id.is_nil() || !id.is_nil();
            if looked == Looked::NotYet && is_new(served) && may_be_newer && !served.is_own {
                return Err(Refusal::Later(Later::Group).into());
            }
            Ok(served)
        }
        // Its time is over: that is certain.
        Some(other) if !is_new(other) => Err(no_group(request, other.revision)),
        _ => match looked {
            Looked::NotYet => Err(Refusal::Later(Later::Group).into()),
            Looked::Yes => Err(no_group(request, served.map_or(0, |other| other.revision))),
            // If nobody has said that there is one, there is none as far as anybody knows.
            Looked::InVain if id.is_nil() => Err(no_group(request, 0)),
            Looked::InVain => {
                let text = "the node has not heard of the group, and can't read the cluster state";
                Err(Error::new(Code::NodeUnavailable, text).into())
            }
        },
    }
}

fn no_group(request: &v1::Request, as_of: u64) -> Failure {
    let text = format!("there is no group {:?}", request.group);
    Failure::NoGroup(Error::new(Code::GroupNotFound, text), as_of)
}

impl NodeService {
    /// Reads the cluster state because of a request's group, and takes on what it brings.
    pub(super) async fn look_for_group(&self, request: &v1::Request, patience: Duration) -> Looked {
        let deadline = Instant::now() + patience;
        let topologies = &self.route.topologies;
        let known = topologies.load();
        let read = if request.group_revision > known.epoch.as_of {
            // Others ask for the same: they are answered by one reading.
            topologies.catch_up_within(request.group_revision, patience).await
        } else if request.group_revision > 0 {
            Ok(known)
        } else {
            return self.look_for_name(deadline).await;
        };
        match read {
            Ok(topology) => self.taken_on(&topology, deadline).await,
            Err(error) if error.code() == Code::Timeout => Looked::InVain,
            // It was read, and has not got that far: who claims so is wrong.
            Err(_) => Looked::Yes,
        }
    }

    /// The same for a name of which its sender knows nothing either.
    async fn look_for_name(&self, deadline: Instant) -> Looked {
        let asked = Instant::now();
        let Ok(mut last) = timeout_at(deadline, self.unknown.last.lock()).await else {
            return Looked::InVain;
        };
        if let Some(last) = *last {
            if last >= asked {
                return Looked::Yes;
            }
            if timeout_at(deadline, sleep_until(last + LOOK_EVERY)).await.is_err() {
                return Looked::InVain;
            }
        }
        let began = Instant::now();
        let patience = deadline.saturating_duration_since(began);
        let read = self.route.topologies.catch_up_within(0, patience).await;
        *last = Some(began);
        match read {
            Ok(topology) => self.taken_on(&topology, deadline).await,
            Err(_) => Looked::InVain,
        }
    }

    /// Waits until the node goes by the groups of a topology, or of a later one.
    async fn taken_on(&self, topology: &Topology, deadline: Instant) -> Looked {
        let mut taken_on = self.unknown.taken_on.subscribe();
        let current = || self.route.topologies.load();
        let is_there = |records: &Arc<GroupRecords>| {
            records == topology.groups() || records == current().groups()
        };
        match timeout_at(deadline, taken_on.wait_for(is_there)).await {
            Ok(Ok(_)) => Looked::Yes,
            Ok(Err(_)) | Err(_) => Looked::InVain,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{clock::ManualClock, entry::HybridClock, key::GroupName};

    use super::*;
    use crate::{
        group::Definition,
        groups::{Groups, Wanted},
    };

    fn groups(id: u128, revision: u64) -> Groups {
        let clock: Arc<dyn common::clock::Clock> = Arc::new(ManualClock::new());
        let hybrid = HybridClock::new(clock.clone());
        let groups = Groups::new([], &clock, &hybrid).unwrap();
        let definition = Definition::new(GroupName::new("users").unwrap());
        let id = Uuid::from_u128(id);
        groups.take_on([Wanted { revision, id, ..Wanted::from(definition) }]);
        groups
    }

    fn found(groups: &Groups, name: &str, id: u128, revision: u64, looked: Looked) -> String {
        let (hi, lo) = Uuid::from_u128(id).as_u64_pair();
        let request = v1::Request {
            group: name.into(),
            group_id_hi: hi,
            group_id_lo: lo,
            group_revision: revision,
            ..v1::Request::default()
        };
        match find(&groups.now(), &request, looked) {
            Ok(served) => format!("revision {}", served.revision),
            Err(Failure::NoGroup(_, as_of)) => format!("none as of {as_of}"),
            Err(Failure::Refused(_)) => "later".into(),
            Err(Failure::Error(error)) => error.code().to_string(),
            Err(Failure::Loading(_)) => unreachable!(),
        }
    }

    #[test]
    fn what_is_new_here_is_looked_for_once() {
        use Looked::*;
        let groups = groups(1, 7);
        let found = |name, id, revision, looked| found(&groups, name, id, revision, looked);
        assert_eq!(found("users", 1, 7, NotYet), "revision 7");
        assert_eq!(found("users", 1, 5, NotYet), "revision 7");
        assert_eq!(found("users", 0, 0, NotYet), "revision 7");
        assert_eq!(found("users", 1, 8, NotYet), "later");
        assert_eq!(found("users", 1, 8, InVain), "revision 7");
        assert_eq!(found("users", 2, 6, NotYet), "none as of 7", "its time is over");
        assert_eq!(found("users", 2, 8, NotYet), "later");
        assert_eq!(found("users", 2, 8, InVain), "node_unavailable");
        assert_eq!(found("nobody", 0, 0, NotYet), "later");
        assert_eq!(found("nobody", 0, 0, Yes), "none as of 0");
        assert_eq!(found("nobody", 0, 0, InVain), "none as of 0");
        assert_eq!(found("nobody", 3, 8, InVain), "node_unavailable");
    }
}

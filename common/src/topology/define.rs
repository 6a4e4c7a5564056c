//! Changing groups in the cluster state: read, judge, write if nothing has changed in between.
//!
//! What was written is known to this process when the call is over, so that its next request goes by
//! it. Who follows it elsewhere, and how, is not known here.

use std::time::Duration;

use tokio::time::timeout;

use super::{Topologies, Topology};
use crate::{
    config::GroupDefinition,
    discovery::{GroupRecord, MAX_GROUP_RECORDS},
    error::{Code, Error, Result},
    key::GroupName,
};

/// How often a write may find that somebody else was first.
const MAX_RACES: usize = 8;
/// How long this process may take to see what it has written.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// The group that every node has, whatever is defined.
pub const DEFAULT_GROUP: &str = "default";

/// When to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct When {
    /// Only if there is no such group.
    pub if_absent: bool,
    /// Only if there is one.
    pub if_present: bool,
    /// Only if its record was written by one of these revisions.
    pub if_revision: Vec<u64>,
}

impl When {
    fn check(&self, live: Option<&GroupRecord>) -> Result<()> {
        let is_one = |record: &GroupRecord| {
            self.if_revision.is_empty() || self.if_revision.contains(&record.revision)
        };
        let holds = match live {
            None => !self.if_present && self.if_revision.is_empty(),
            Some(record) => !self.if_absent && is_one(record),
        };
        let text = "the group is not as the condition says";
        if holds { Ok(()) } else { Err(Error::new(Code::PreconditionFailed, text)) }
    }
}

/// What a write made.
#[derive(Debug, Clone)]
pub struct Defined {
    /// The record as it is now.
    pub record: GroupRecord,
    /// Whether there was no such group before.
    pub created: bool,
}

impl Topologies {
    /// Makes a group, or changes its definition. One that is so already is left as it is.
    ///
    /// # Errors
    /// [`Code::PreconditionFailed`]; [`Code::Unsupported`] where groups are no cluster state;
    /// [`Code::StorageFull`] beyond [`MAX_GROUP_RECORDS`]; [`Code::NodeUnavailable`].
    pub async fn put_group(
        &self,
        name: &GroupName,
        definition: &GroupDefinition,
        when: &When,
    ) -> Result<Defined> {
        let write = |topology: &Topology| {
            let record = topology.group(name.as_str());
            let live = record.filter(|record| record.definition.is_some());
            when.check(live)?;
            if record.is_none() && topology.groups().len() >= MAX_GROUP_RECORDS {
                let text =
                    format!("there are {MAX_GROUP_RECORDS} groups already, counting deleted ones");
                return Err(Error::new(Code::StorageFull, text));
            }
            let made = GroupRecord::new(definition.clone());
            Ok(match live {
                Some(live) => GroupRecord { id: live.id, ..made },
                None => made,
            })
        };
        let (record, before) = self.change_group(name, write).await?;
        Ok(Defined { record, created: before.is_none_or(|before| before.definition.is_none()) })
    }

    /// Deletes a group for good: one of its name that is made later is another one.
    ///
    /// # Errors
    /// As [`Topologies::put_group`], and [`Code::GroupNotFound`].
    pub async fn delete_group(&self, name: &GroupName, when: &When) -> Result<()> {
        if name.as_str() == DEFAULT_GROUP {
            let text = "the group default is always there: change its definition instead";
            return Err(Error::new(Code::InvalidRequest, text));
        }
        let write = |topology: &Topology| {
            let live = topology.group(name.as_str()).filter(|it| it.definition.is_some());
            when.check(live)?;
            let gone = || {
                let text = format!("there is no group {:?} in the cluster state", name.as_str());
                Error::new(Code::GroupNotFound, text)
            };
            live.map(|it| GroupRecord { definition: None, ..it.clone() }).ok_or_else(gone)
        };
        self.change_group(name, write).await.map(drop)
    }

    /// Writes what `write` makes of the state as it is; returns that and what was there before.
    async fn change_group(
        &self,
        name: &GroupName,
        write: impl Fn(&Topology) -> Result<GroupRecord>,
    ) -> Result<(GroupRecord, Option<GroupRecord>)> {
        for _ in 0..MAX_RACES {
            let topology = self.catch_up(0).await?;
            let before = topology.group(name.as_str()).cloned();
            let record = write(&topology)?;
            if let Some(same) = before.as_ref().filter(|it| is_same(it, &record)) {
                return Ok((same.clone(), before));
            }
            let seen = before.as_ref().map_or(0, |before| before.revision);
            if let Some(revision) = self.discovery().write_group(name, &record, seen).await? {
                // It is written in any case.
                let _ = timeout(SEEN_WITHIN, self.catch_up(revision)).await;
                return Ok((GroupRecord { revision, ..record }, before));
            }
        }
        let text = "the group's record keeps changing, or holds what can't be read: look at its key \
                    in etcd";
        Err(Error::new(Code::NodeUnavailable, text))
    }
}

fn is_same(before: &GroupRecord, record: &GroupRecord) -> bool {
    match (&before.definition, &record.definition) {
        (Some(before), Some(now)) => before == now,
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_about_the_group_that_is_there() {
        let live = GroupRecord { revision: 7, ..GroupRecord::new(GroupDefinition::default()) };
        let absent = When { if_absent: true, ..When::default() };
        let present = When { if_present: true, ..When::default() };
        let at = |revision| When { if_revision: vec![3, revision], ..When::default() };
        for (when, if_there, if_not) in [
            (When::default(), true, true),
            (absent, false, true),
            (present, true, false),
            (at(7), true, false),
            (at(8), false, false),
        ] {
            assert_eq!(when.check(Some(&live)).is_ok(), if_there, "{when:?}");
            assert_eq!(when.check(None).is_ok(), if_not, "{when:?}");
        }
    }
}

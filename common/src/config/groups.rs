//! The sections `[groups.NAME]`: what a group is made of when this configuration defines it.
//!
//! Those of groups that are defined at run time come through here too, from JSON
//! ([`GroupDefinition::read`]).

use std::{collections::BTreeMap, time::Duration};

use super::{
    definition::GroupDefinition,
    kind::{Parsed, size_text, step},
    layers::Layers,
    origins::{self, OriginSettings},
    problem::{Origin, Problem},
    values::Values,
};
use crate::key::GroupName;

/// A group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Memory the group may take, in bytes.
    pub capacity: u64,
    /// Lifetime of an entry that came without one; zero is forever.
    pub ttl: Duration,
    /// By what part of it that lifetime varies, up and down, in thousandths.
    pub ttl_jitter: u32,
    /// Entries not read for this long go; zero keeps them.
    pub idle: Duration,
    /// Which entries go when the group is full.
    pub eviction: Eviction,
    /// Largest value, in bytes; at most the capacity.
    pub max_value: u64,
    /// What to do for keys whose owner can't be reached.
    pub partition: Partition,
    /// Whether gateways may hold its hot values for a moment.
    pub near: bool,
    /// How long it is remembered that an origin which is asked has no value; zero: not at all.
    pub negative_ttl: Duration,
    /// For how long after its time a value is answered while its origin is asked.
    pub stale_while_revalidate: Duration,
    /// For how long after its time a value is answered if its origin fails or is late.
    pub stale_if_error: Duration,
    /// The longest wait for the origin where a value is at hand that may be answered if it fails; zero: as
    /// long as the request may take.
    pub soft_timeout: Duration,
    /// How early hot values are loaded anew, before their time is over, in thousandths of what is usual;
    /// zero: not at all.
    pub early_refresh: u32,
    /// Where missing values come from; without one a miss is a miss.
    pub origin: Option<OriginSettings>,
}

/// Which entries go when a group is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// The least recently used.
    #[default]
    Lru,
    /// The least often used, by TinyLFU's sketch.
    TinyLfu,
}

/// What a group does for keys whose owner can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Partition {
    /// The next node stands in.
    #[default]
    Available,
    /// They are unavailable.
    Strict,
}

/// Where a group's keys are in the file.
pub(super) fn path(group: &str) -> String {
    format!("groups.{}", step(group))
}

/// The layer that speaks of a group: that of any of its values.
pub(super) fn origin_of(layers: &Layers, group: &str) -> Origin {
    let first = layers.find(&["groups", group]).and_then(|found| {
        let key = found.value.into_dict()?.into_keys().next()?;
        layers.find(&["groups", group, &key])
    });
    first.map_or_else(Origin::default, |found| found.origin)
}

/// Builds every group from values that were read without a problem.
pub(super) fn build(
    values: &mut Values,
    layers: &Layers,
    problems: &mut Vec<Problem>,
) -> BTreeMap<GroupName, GroupDefinition> {
    let mut groups = BTreeMap::new();
    for name in values.groups.clone() {
        clip_max_value(values, &name, problems);
        if let Some(group) = build_one(values, layers, &name, problems) {
            let definition = GroupDefinition::of(group, values, layers, name.as_str());
            groups.insert(name, definition);
        }
    }
    groups
}

fn build_one(
    values: &Values,
    layers: &Layers,
    name: &GroupName,
    problems: &mut Vec<Problem>,
) -> Option<GroupSettings> {
    let key = |leaf: &str| format!("{}.{leaf}", path(name.as_str()));
    Some(GroupSettings {
        capacity: values.size(&key("capacity"))?,
        ttl: values.span(&key("ttl"))?,
        ttl_jitter: values.decimal(&key("ttl_jitter"))?,
        idle: values.span(&key("idle"))?,
        eviction: match values.text(&key("eviction"))?.as_str() {
            "tinylfu" => Eviction::TinyLfu,
            _ => Eviction::Lru,
        },
        max_value: values.size(&key("max_value"))?,
        partition: match values.text(&key("partition"))?.as_str() {
            "strict" => Partition::Strict,
            _ => Partition::Available,
        },
        near: values.switch(&key("near"))?,
        negative_ttl: values.span(&key("negative_ttl"))?,
        stale_while_revalidate: values.span(&key("stale_while_revalidate"))?,
        stale_if_error: values.span(&key("stale_if_error"))?,
        soft_timeout: values.span(&key("soft_timeout"))?,
        early_refresh: values.decimal(&key("early_refresh"))?,
        origin: origins::read(layers, name, problems),
    })
}

/// No value is larger than its group. The default gives way, a configured one is a mistake.
fn clip_max_value(values: &mut Values, name: &GroupName, problems: &mut Vec<Problem>) {
    let capacity_key = format!("{}.capacity", path(name.as_str()));
    let key = format!("{}.max_value", path(name.as_str()));
    let (Some(capacity), Some(max)) = (values.size(&capacity_key), values.size(&key)) else {
        return;
    };
    if max <= capacity {
        return;
    }
    if values.entry(&key).origin.is_default() {
        let entry = values.all.iter_mut().find(|entry| entry.key == key);
        if let Some(entry) = entry {
            entry.value = Some(Parsed::Size(capacity));
        }
        return;
    }
    let message = format!(
        "this is more than the group's capacity, {} ({}); lower it or raise {capacity_key}",
        size_text(capacity),
        values.entry(&capacity_key).origin,
    );
    problems.push(values.problem(&key, message));
}

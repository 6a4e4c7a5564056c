//! The sections `[groups.NAME]`: what a group is made of when this configuration defines it.
//!
//! Groups defined at run time are not configuration and do not come through here.

use std::{collections::BTreeMap, time::Duration};

use figment::value::{Dict, Value};

use super::{
    kind::{Parsed, size_text, step},
    layers::Layers,
    problem::{Origin, Problem, shown},
    values::Values,
};
use crate::key::{GroupName, Key};

/// A group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Memory the group may take, in bytes.
    pub capacity: u64,
    /// Lifetime of an entry that came without one; zero is forever.
    pub ttl: Duration,
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

/// Where a group's missing values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginSettings {
    /// A table in the configuration itself.
    Static {
        /// Values by key.
        values: BTreeMap<Key, String>,
    },
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
) -> BTreeMap<GroupName, GroupSettings> {
    let mut groups = BTreeMap::new();
    for name in values.groups.clone() {
        clip_max_value(values, &name, problems);
        if let Some(group) = build_one(values, layers, &name, problems) {
            groups.insert(name, group);
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
        origin: read_origin(layers, name, problems),
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

/// Reads `origin = { kind = "static", values = { … } }`.
pub(super) fn read_origin(
    layers: &Layers,
    name: &GroupName,
    problems: &mut Vec<Problem>,
) -> Option<OriginSettings> {
    let found = layers.find(&["groups", name.as_str(), "origin"])?;
    let key = format!("{}.origin", path(name.as_str()));
    let mut complain = |key: String, value: Option<&Value>, message: String| {
        let value = value.map(|value| shown(value, false));
        problems.push(Problem { key, value, origin: found.origin.clone(), message });
    };
    let Value::Dict(_, mut table) = found.value else {
        let message = "an origin is a table; write { kind = \"static\", values = { … } }";
        complain(key, Some(&found.value), message.into());
        return None;
    };
    let kind = table.remove("kind");
    match kind.as_ref().and_then(Value::as_str) {
        Some("static") => static_origin(table, &key, &mut complain),
        named => {
            complain(format!("{key}.kind"), kind.as_ref(), not_built_in(named));
            None
        }
    }
}

fn not_built_in(kind: Option<&str>) -> String {
    match kind {
        Some(kind) => {
            format!("origin kind {kind:?} is not built into this version; use \"static\"")
        }
        None => "an origin has a kind; the one of this version is \"static\"".into(),
    }
}

fn static_origin(
    mut table: Dict,
    key: &str,
    complain: &mut impl FnMut(String, Option<&Value>, String),
) -> Option<OriginSettings> {
    let values = table.remove("values");
    for unknown in table.keys() {
        let message = "there is no such key; an origin of kind \"static\" has values".into();
        complain(format!("{key}.{}", step(unknown)), None, message);
    }
    let key = format!("{key}.values");
    let Some(Value::Dict(_, values)) = values else {
        let message = "an origin of kind \"static\" has a table of values; write values = \
                       { Tom = \"630\" }";
        complain(key, values.as_ref(), message.into());
        return None;
    };
    Some(OriginSettings::Static { values: static_values(values, &key, complain) })
}

/// The table's values as text: whole numbers and booleans are taken as they are written.
fn static_values(
    table: Dict,
    path: &str,
    complain: &mut impl FnMut(String, Option<&Value>, String),
) -> BTreeMap<Key, String> {
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let at = format!("{path}.{}", step(&name));
        let text = match &value {
            Value::String(_, text) => Some(text.clone()),
            Value::Bool(_, on) => Some(on.to_string()),
            Value::Num(_, number) => number.to_i128().map(|number| number.to_string()),
            _ => None,
        };
        match (Key::new(name), text) {
            (Ok(key), Some(text)) => drop(values.insert(key, text)),
            (Err(error), _) => complain(at, None, error.to_string()),
            (_, None) => complain(at, Some(&value), "a value is a text; write it in quotes".into()),
        }
    }
    values
}

//! Which groups a node serves: those of its settings, or the demo group when there are none.

use std::sync::Arc;

use common::{
    clock::Clock,
    config::{self, GroupSettings, OriginSettings, Settings},
    entry::HybridClock,
    key::GroupName,
};

use super::StartError;
use crate::{
    group::{Definition, Partition},
    groups::Groups,
    origin::OriginDefinition,
    store::Eviction,
};

/// What the demo group's origin holds: the scores of the systems Ringway grew out of.
const DEMO_SCORES: [(&str, &str); 3] = [("Tom", "630"), ("Jack", "589"), ("Sam", "567")];

/// Builds a node's groups.
pub(super) fn groups(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Groups>, StartError> {
    let mut definitions: Vec<Definition> =
        settings.groups.iter().map(|(name, group)| definition(name, group)).collect();
    if definitions.is_empty() {
        let demo = demo(settings);
        tracing::info!(
            group = %demo.name,
            "no group is configured: serving the demo group (Tom, Jack, Sam)"
        );
        definitions.push(demo);
    }
    let hybrid = HybridClock::new(Arc::clone(clock));
    let groups = Groups::new(definitions, clock, &hybrid);
    Ok(Arc::new(groups.map_err(|error| StartError::Setting(error.to_string()))?))
}

fn definition(name: &GroupName, settings: &GroupSettings) -> Definition {
    Definition {
        name: name.clone(),
        capacity: settings.capacity,
        ttl: settings.ttl,
        idle: settings.idle,
        eviction: match settings.eviction {
            config::Eviction::Lru => Eviction::Lru,
            config::Eviction::TinyLfu => Eviction::TinyLfu,
        },
        max_value: settings.max_value,
        partition: match settings.partition {
            config::Partition::Available => Partition::Available,
            config::Partition::Strict => Partition::Strict,
        },
        near: settings.near,
        origin: match &settings.origin {
            None => OriginDefinition::None,
            Some(OriginSettings::Static { values }) => OriginDefinition::Static(
                values.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            ),
        },
    }
}

/// The demo group, as the flags `--group-name`, `--cache-size` and `--ttl` shape it.
fn demo(settings: &Settings) -> Definition {
    let node = &settings.node;
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let defaults = Definition::new(node.group_name.clone());
    Definition {
        capacity: node.cache_size,
        max_value: defaults.max_value.min(node.cache_size),
        ttl: node.ttl,
        origin: OriginDefinition::Static(DEMO_SCORES.map(own).into_iter().collect()),
        ..defaults
    }
}

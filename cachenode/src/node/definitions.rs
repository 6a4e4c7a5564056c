//! Which groups a node serves: those of its settings and those that a program brings along, or the demo
//! group when there are none.

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
    origin::{Asked, OriginDefinition, http::Http, opendal::Opendal, sql},
    store::Eviction,
};

/// What the demo group's origin holds: the scores of the systems Ringway grew out of.
const DEMO_SCORES: [(&str, &str); 3] = [("Tom", "630"), ("Jack", "589"), ("Sam", "567")];

/// Builds a node's groups.
pub(super) fn groups(
    settings: &Settings,
    brought: Vec<Definition>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Groups>, StartError> {
    let configured = settings.groups.iter().map(|(name, group)| definition(name, group));
    let mut definitions = configured.collect::<Result<Vec<Definition>, StartError>>()?;
    definitions.extend(brought);
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

fn definition(name: &GroupName, settings: &GroupSettings) -> Result<Definition, StartError> {
    let origin = origin(settings);
    let origin = origin.map_err(|why| StartError::Setting(format!("groups.{name}.{why}")))?;
    Ok(Definition {
        name: name.clone(),
        capacity: settings.capacity,
        ttl: settings.ttl,
        ttl_jitter: settings.ttl_jitter,
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
        negative_ttl: settings.negative_ttl,
        stale_while_revalidate: settings.stale_while_revalidate,
        stale_if_error: settings.stale_if_error,
        soft_timeout: settings.soft_timeout,
        early_refresh: settings.early_refresh,
        origin,
    })
}

/// The origin that a group's settings speak of; what can't be is told for people.
fn origin(settings: &GroupSettings) -> Result<OriginDefinition, String> {
    Ok(match &settings.origin {
        None => OriginDefinition::None,
        Some(OriginSettings::Static { values }) => OriginDefinition::Static(
            values.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        ),
        Some(OriginSettings::Http(http)) => OriginDefinition::Asked(Asked {
            kind: "http",
            origin: Arc::new(Http::new(http, settings.max_value)?),
            timeout: http.timeout,
            max_loads: http.max_loads,
        }),
        Some(OriginSettings::Opendal(opendal)) => OriginDefinition::Asked(Asked {
            kind: "opendal",
            origin: Arc::new(Opendal::new(opendal, settings.max_value)?),
            timeout: opendal.timeout,
            max_loads: opendal.max_loads,
        }),
        Some(OriginSettings::Sql(sql)) => OriginDefinition::Asked(Asked {
            kind: "sql",
            origin: sql::origin(sql, settings.max_value)?,
            timeout: sql.timeout,
            max_loads: sql.max_loads,
        }),
    })
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

//! What a node's own process says of groups: those of its settings and those that a program brings
//! along, or the demo group when there are none. And how a definition becomes a group.

use std::{collections::BTreeMap, future::ready, sync::Arc};

use common::{
    clock::Clock,
    config::{self, GroupDefinition, GroupSettings, OriginSettings, Settings},
    entry::HybridClock,
    key::{GroupName, NameError},
};

use super::StartError;
use crate::{
    group::{Definition, Partition},
    groups::{DEFAULT_GROUP, Groups, Wanted},
    origin::{Asked, LoadError, OriginDefinition, http::Http, opendal::Opendal, sql},
    store::Eviction,
};

/// What the demo group's origin holds: the scores of the systems Ringway grew out of.
const DEMO_SCORES: [(&str, &str); 3] = [("Tom", "630"), ("Jack", "589"), ("Sam", "567")];

/// What this process itself says of groups.
pub(super) struct Local {
    /// Those that are there where the cluster state says nothing of their names.
    pub(super) wanted: BTreeMap<GroupName, Wanted>,
    /// Those of its configuration, which are to be cluster state.
    pub(super) configured: BTreeMap<GroupName, GroupDefinition>,
}

impl Local {
    /// What becomes cluster state holds no secret.
    pub(super) fn check_secrets(&self) -> Result<(), StartError> {
        for (name, definition) in &self.configured {
            let checked = definition.check_secrets(name, "the groups of this node");
            checked.map_err(|error| StartError::Setting(error.to_string()))?;
        }
        Ok(())
    }
}

/// Builds a node's groups, as its process defines them.
pub(super) fn groups(
    settings: &Settings,
    brought: Vec<Definition>,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Groups>, Local), StartError> {
    let mut wanted = BTreeMap::new();
    let mut configured = settings.groups.clone();
    for (name, group) in &settings.groups {
        let definition = definition(name, group)
            .map_err(|why| StartError::Setting(format!("groups.{name}.{why}")))?;
        wanted.insert(name.clone(), Wanted::from(definition));
    }
    for definition in brought {
        let name = definition.name.clone();
        configured.remove(&name);
        wanted.insert(name, Wanted { is_own: true, ..Wanted::from(definition) });
    }
    if wanted.is_empty() {
        let demo = demo(settings);
        tracing::info!(
            group = %demo.name,
            "no group is configured: serving the demo group (Tom, Jack, Sam)"
        );
        wanted.insert(demo.name.clone(), Wanted::from(demo));
    }
    let setting = |error: NameError| StartError::Setting(error.to_string());
    let default = GroupName::new(DEFAULT_GROUP).map_err(setting)?;
    let usual = || Wanted::from(Definition::new(default.clone()));
    wanted.entry(default.clone()).or_insert_with(usual);
    let hybrid = HybridClock::new(Arc::clone(clock));
    let groups = Groups::new([], clock, &hybrid).map_err(setting)?;
    groups.take_on(wanted.values().cloned());
    Ok((Arc::new(groups), Local { wanted, configured }))
}

/// What a definition of the cluster state means on this node. An origin that can't be had here fails
/// every load, and says why.
pub(super) fn defined(name: &GroupName, settings: &GroupSettings) -> Definition {
    definition(name, settings).unwrap_or_else(|why| {
        tracing::error!(group = %name, why, "the group's origin can't be used on this node");
        let fails = move |_| ready(Err(LoadError::failed(&why)));
        let without = GroupSettings { origin: None, ..settings.clone() };
        let origin = OriginDefinition::Asked(Asked::new(fails));
        let rest = definition(name, &without);
        Definition { origin, ..rest.unwrap_or_else(|_| Definition::new(name.clone())) }
    })
}

fn definition(name: &GroupName, settings: &GroupSettings) -> Result<Definition, String> {
    let origin = origin(settings)?;
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

//! Configuration: flags over environment over a TOML file over defaults, into typed settings.
//!
//! [`load`] reads all layers, checks every value and answers with settings, warnings and a report
//! of where each value came from, or with every mistake at once. One file serves both binaries;
//! each checks all of it, and on top what only it can judge, such as its own listener. Settings are
//! read once: nothing here watches a file. What is decided later (an id from an address that was
//! bound, workers from cores) is left to whoever decides it.

mod build;
mod definition;
mod etcd;
pub mod flags;
mod groups;
mod keys;
mod kind;
mod layers;
mod origins;
mod problem;
mod reference;
mod report;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod unknown;
mod values;

use std::path::PathBuf;

use figment::value::{Dict, Value};

pub use self::{
    definition::{Difference, GroupDefinition, Keys},
    groups::{Eviction, GroupSettings, Partition},
    keys::MAX_VALUE,
    origins::{
        Database, HttpSettings, KEY_PLACE, LOAD_TIMEOUT, MAX_LOADS, MAX_SQL_LOADS, OpendalSettings,
        OriginSettings, SERVICES, Service, SqlSettings, check_sql, is_link_local, is_plain_path,
    },
    problem::{ConfigError, Origin, Problem},
    reference::reference,
    settings::{
        Backend, DiscoverySettings, GatewaySettings, NodeSettings, RingWishes, Settings, host_port,
    },
};
pub use crate::{security::SecuritySettings, telemetry::TelemetrySettings};

use self::{flags::Flags, keys::FILE_VARIABLE, layers::Layers, values::Values};

/// Exit code of a process that can't use its configuration (`EX_CONFIG` of sysexits).
pub const EXIT_BAD_CONFIG: u8 = 78;

/// Which binary reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `apiserver`
    Gateway,
    /// `cachenode`
    Node,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What is probably a mistake but does no harm; for the log, once there is one.
    pub warnings: Vec<String>,
    report: String,
}

impl Loaded {
    /// The output of `--check-config`: every effective value with where it came from, as TOML,
    /// with secrets masked.
    pub fn report(&self) -> &str {
        &self.report
    }
}

/// Reads the configuration of a process. `environment` is [`process_environment`] outside of tests.
///
/// # Errors
/// [`ConfigError`] with every mistake that was found; a file that can't be read hides the others.
pub fn load(
    flags: &impl Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let environment: Vec<_> = environment.into_iter().collect();
    let mut problems = Vec::new();

    let mut layers = Layers::new();
    if let Some((path, named_by)) = file(flags, &environment) {
        let mut content = layers::read_file(&path, named_by)
            .map_err(|problem| ConfigError::new(vec![problem]))?;
        let origin = Origin::file(&path);
        unknown::check_file(&mut content, &origin, &mut problems);
        layers = layers.file(origin, content);
    }
    let (variables, mut warnings) = unknown::sort_environment(environment, &layers.group_names());
    let layers = layers.environment(&variables).flags(&flags.values());

    let mut values = Values::read(&layers, &mut problems);
    for name in &values.groups {
        origins::read(&layers, name, &mut problems);
    }
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    let settings = build::settings(&mut values, &layers, flags.role(), &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    warnings.extend(build::warnings(&settings, &values, flags.role()));
    let report = report::render(&values, &layers, &warnings);
    Ok(Loaded { settings, warnings, report })
}

/// The variables of this process that may be settings. Bytes that are not UTF-8 are replaced; a
/// text setting that holds a replacement is refused.
pub fn process_environment() -> Vec<(String, String)> {
    let texts = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    texts.filter(|(name, _)| name.starts_with(keys::PREFIX)).collect()
}

/// The file to read, and what names it.
fn file(flags: &impl Flags, environment: &[(String, String)]) -> Option<(PathBuf, Origin)> {
    if let Some(path) = &flags.common().config {
        return Some((path.clone(), Origin::flag("config")));
    }
    let mut named = environment.iter().filter(|(name, _)| name == FILE_VARIABLE);
    let (_, path) = named.next_back().filter(|(_, path)| !path.is_empty())?;
    Some((path.into(), Origin::environment(FILE_VARIABLE)))
}

/// The settings of a gateway or node that was told nothing.
impl Default for Settings {
    fn default() -> Self {
        built_from(Layers::new())
    }
}

/// The settings of a group that is only named.
impl Default for GroupSettings {
    fn default() -> Self {
        let section = Value::from(Dict::from([("g".to_owned(), Value::from(Dict::new()))]));
        let content = Dict::from([("groups".to_owned(), section)]);
        let mut settings = built_from(Layers::new().file(Origin::default(), content));
        settings.groups.remove("g").expect("the layer names the group").settings
    }
}

/// Settings from layers that hold nothing but defaults.
fn built_from(layers: Layers) -> Settings {
    let mut problems = Vec::new();
    let mut values = Values::read(&layers, &mut problems);
    build::settings(&mut values, &layers, Role::Node, &mut problems)
}

//! The output of `--check-config`: the effective configuration as a file, each value with where
//! it came from, and secrets masked.

use std::fmt::Write;

use figment::value::Value;

use super::{
    groups,
    keys::{Fallback, GROUP_KEYS},
    kind::{Kind, quoted, step},
    layers::Layers,
    origins,
    values::{Effective, Values},
};
use crate::security::MASK;

/// Column in which origins start, where the value leaves room.
const ORIGIN_COLUMN: usize = 44;

/// Renders every effective value.
pub(super) fn render(values: &Values, layers: &Layers, warnings: &[String]) -> String {
    let mut out = String::new();
    let mut section = "";
    for entry in &values.all {
        let (this, name) = entry.key.rsplit_once('.').unwrap_or(("", &entry.key));
        if this != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{this}]");
            section = this;
        }
        line(&mut out, &setting(name, entry), &entry.origin.to_string());
        let last_of_group = GROUP_KEYS.iter().rfind(|key| !matches!(key.kind, Kind::Origin));
        if section.starts_with("groups.") && last_of_group.is_some_and(|key| key.path == name) {
            origin(&mut out, section, values, layers);
        }
    }
    if !warnings.is_empty() {
        out.push('\n');
    }
    for warning in warnings {
        let _ = writeln!(out, "# warning: {warning}");
    }
    out
}

fn setting(name: &str, entry: &Effective) -> String {
    match (&entry.value, entry.spec.fallback) {
        (Some(_), _) if entry.spec.secret => format!("{name} = {}", quoted(MASK)),
        (Some(value), _) => format!("{name} = {}", value.to_toml()),
        (None, Fallback::Unset(means)) => format!("#{name} is not set: {means}"),
        (None, Fallback::Value(_)) => format!("#{name} is not set"),
    }
}

/// A group's origin, which is not a single value.
fn origin(out: &mut String, section: &str, values: &Values, layers: &Layers) {
    let group = values.groups.iter().find(|group| groups::path(group.as_str()) == section);
    let found = group.and_then(|group| layers.find(&["groups", group.as_str(), "origin"]));
    match found {
        Some(found) => {
            let text = format!("origin = {}", inline(&origins::without_secrets(found.value)));
            line(out, &text, &found.origin.to_string());
        }
        None => line(out, "#origin is not set: none, a miss is a miss", "default"),
    }
}

/// A value as inline TOML.
fn inline(value: &Value) -> String {
    match value {
        Value::Dict(_, table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", step(key), inline(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Bool(_, on) => on.to_string(),
        Value::Num(_, number) => number.to_i128().unwrap_or_default().to_string(),
        other => quoted(other.as_str().unwrap_or_default()),
    }
}

fn line(out: &mut String, setting: &str, origin: &str) {
    let _ = writeln!(out, "{setting:<ORIGIN_COLUMN$} # {origin}");
}

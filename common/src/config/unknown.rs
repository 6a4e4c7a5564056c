//! Names that nothing reads: keys of the file, which are mistakes, and variables of the
//! environment, which may belong to someone else and are only warned of.

use figment::value::{Dict, Value};

use super::{
    groups,
    keys::{FILE_VARIABLE, GROUP_KEYS, KEYS, PREFIX},
    kind::{Kind, step},
    layers::Variable,
    problem::{Origin, Problem},
};

/// Checks the names in a file and takes out what is not a setting, so that it can't hide one.
pub(super) fn check_file(content: &mut Dict, origin: &Origin, problems: &mut Vec<Problem>) {
    let mut complain = |key: String, message: String| {
        problems.push(Problem { key, value: None, origin: origin.clone(), message });
    };
    content.retain(|section, value| {
        let is_group = section == "groups";
        if !is_group && !KEYS.iter().any(|key| section_of(key.path) == section) {
            let message = format!("there is no such section{}", nearest_section(section));
            complain(step(section), message);
            return false;
        }
        let Value::Dict(_, keys) = value else {
            let message = format!("this is a section; write [{section}] and its keys below");
            complain(section.clone(), message);
            return false;
        };
        keys.retain(|name, value| match is_group {
            true => check_group(name, value, &mut complain),
            false => check_key(section, name, &mut complain),
        });
        true
    });
}

fn check_key(section: &str, name: &str, complain: &mut impl FnMut(String, String)) -> bool {
    let path = format!("{section}.{name}");
    let known = KEYS.iter().any(|key| key.path == path);
    if !known {
        let message = format!("there is no such key{}", nearest_key(&path));
        complain(format!("{section}.{}", step(name)), message);
    }
    known
}

fn check_group(name: &str, value: &mut Value, complain: &mut impl FnMut(String, String)) -> bool {
    let path = groups::path(name);
    let Value::Dict(_, keys) = value else {
        complain(path.clone(), format!("this is a section; write [{path}] and its keys below"));
        return false;
    };
    keys.retain(|key, _| {
        let known = GROUP_KEYS.iter().any(|known| known.path == key);
        if !known {
            let candidates = GROUP_KEYS.iter().map(|known| known.path);
            let hint = match nearest(key, candidates) {
                Some(near) => format!("; did you mean {near}?"),
                None => format!("; a group has {}", all(GROUP_KEYS.iter().map(|k| k.path))),
            };
            complain(format!("{path}.{}", step(key)), format!("there is no such key{hint}"));
        }
        known
    });
    true
}

/// Sorts the environment into what sets a key and warnings about the rest of `RINGWAY_…`. An empty
/// variable counts as not set. `groups` are the groups of the file: variables are in upper case,
/// so that the case of a group's name has to come from there.
pub(super) fn sort_environment(
    environment: Vec<(String, String)>,
    groups: &[String],
) -> (Vec<Variable>, Vec<String>) {
    let (mut variables, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE {
            continue;
        }
        match path_of(&name, groups) {
            Some(_) if value.is_empty() => {}
            Some(path) => variables.push(Variable { name, path, value }),
            None => warnings.push(format!("nothing reads {name}{}", nearest_variable(&name))),
        }
    }
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    (variables, warnings)
}

fn path_of(variable: &str, groups: &[String]) -> Option<Vec<String>> {
    if let Some(key) = KEYS.iter().find(|key| key.variable() == variable) {
        return Some(key.path.split('.').map(str::to_owned).collect());
    }
    let rest = variable.strip_prefix(PREFIX)?.strip_prefix("GROUPS__")?;
    let (name, key) = rest.rsplit_once("__")?;
    let is_key =
        |k: &&super::keys::Key| !matches!(k.kind, Kind::Origin) && k.path.to_uppercase() == key;
    let key = GROUP_KEYS.iter().find(is_key)?;
    let lower = name.to_lowercase();
    let in_file = groups.iter().find(|group| group.eq_ignore_ascii_case(name));
    let group = if groups.contains(&lower) { &lower } else { in_file.unwrap_or(&lower) };
    (!group.is_empty()).then(|| vec!["groups".into(), group.clone(), key.path.into()])
}

fn nearest_section(section: &str) -> String {
    let sections = KEYS.iter().map(|key| section_of(key.path)).chain(["groups"]);
    match nearest(section, sections) {
        Some(near) => format!("; did you mean [{near}]?"),
        None if KEYS.iter().any(|key| leaf_of(key.path) == section) => {
            let at = KEYS.iter().find(|key| leaf_of(key.path) == section).map(|key| key.path);
            format!("; did you mean {}?", at.unwrap_or_default())
        }
        None => "; the sections are discovery, ring, gateway, node, groups.NAME, security and \
                 telemetry"
            .into(),
    }
}

/// The key that was probably meant: one spelt alike in the same section, or of the same name in
/// another one.
fn nearest_key(path: &str) -> String {
    let (section, leaf) = (section_of(path), leaf_of(path));
    let siblings = || KEYS.iter().map(|key| key.path).filter(|key| section_of(key) == section);
    let elsewhere = || KEYS.iter().map(|key| key.path).find(|key| leaf_of(key) == leaf);
    match nearest(path, siblings()).or_else(elsewhere) {
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; [{section}] has {}", all(siblings().map(leaf_of))),
    }
}

fn nearest_variable(name: &str) -> String {
    let known: Vec<_> = KEYS.iter().map(|key| key.variable()).collect();
    let candidates = known.iter().map(String::as_str).chain([FILE_VARIABLE]);
    match nearest(&name.to_uppercase(), candidates) {
        Some(near) => format!("; did you mean {near}?"),
        None => "; it is ignored".into(),
    }
}

/// The candidate at the least distance, if it is near at all.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Most typing mistakes between a name and the one that is suggested for it.
    const MAX_MISTAKES: usize = 2;
    candidates
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= MAX_MISTAKES)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn all<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn section_of(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

fn leaf_of(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

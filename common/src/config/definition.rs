//! A group's definition as a table of keys: the same one in a file, in the cluster state and over
//! HTTP, read and judged by the same code, so that a key which is added to the table of keys is part
//! of all three.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};

use super::{
    groups::{self, GroupSettings},
    keys::GROUP_KEYS,
    kind::{Kind, Parsed, size_text, step},
    layers::Layers,
    origins,
    problem::{ConfigError, Origin, Problem},
    unknown,
    values::Values,
};
use crate::key::GroupName;

/// A table of keys, as in JSON.
pub type Keys = Map<String, Json>;

/// A group's definition: what it means, and the keys that say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDefinition {
    /// What it means.
    pub settings: GroupSettings,
    keys: Keys,
}

/// A key in which two definitions differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub key: String,
    /// What one says.
    pub this: Json,
    /// And the other.
    pub other: Json,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (not {})", self.key, self.this, self.other)
    }
}

impl GroupDefinition {
    /// Reads a definition that people wrote; `from` says where, for the complaints. Keys that are left
    /// out have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake; keys that are not known are mistakes.
    pub fn read(name: &GroupName, keys: &Keys, from: &'static str) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let dict = keys.iter().map(|(key, value)| (key.clone(), figment(value))).collect::<Dict>();
        let section = Dict::from([(name.to_string(), dict.into())]);
        let mut content = Dict::from([("groups".to_owned(), section.into())]);
        let origin = Origin::named(from);
        unknown::check_file(&mut content, &origin, &mut problems);
        let layers = Layers::new().file(origin, content);
        let mut values = Values::read(&layers, &mut problems);
        if problems.is_empty() {
            let group = groups::build(&mut values, &layers, &mut problems).remove(name);
            if let Some(group) = group.filter(|_| problems.is_empty()) {
                return Ok(group);
            }
        } else {
            // Every mistake at once.
            origins::read(&layers, name, &mut problems);
        }
        Err(ConfigError::new(problems))
    }

    /// Reads a definition that another process wrote, perhaps of a later version: keys that are not
    /// known here are passed over.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn read_known(name: &GroupName, keys: &Keys) -> Result<Self, ConfigError> {
        let is_known = |key: &String| GROUP_KEYS.iter().any(|known| known.path == key);
        let known = keys.iter().filter(|(key, _)| is_known(key));
        let known = known.map(|(key, value)| (key.clone(), value.clone())).collect();
        Self::read(name, &known, "cluster state")
    }

    /// What the layers of a configuration say of a group, with the settings that were made of it.
    pub(super) fn of(
        settings: GroupSettings,
        values: &Values,
        layers: &Layers,
        name: &str,
    ) -> Self {
        let path = groups::path(name);
        let mut keys = Keys::new();
        for spec in GROUP_KEYS {
            let value = if matches!(spec.kind, Kind::Origin) {
                let found = layers.find(&["groups", name, spec.path]);
                found.and_then(|found| serde_json::to_value(found.value).ok())
            } else {
                let entry = values.entry(&format!("{path}.{}", spec.path));
                entry.value.as_ref().map(json)
            };
            keys.extend(value.map(|value| (spec.path.to_owned(), value)));
        }
        Self { settings, keys }
    }

    /// Every key that has a value, defaults included.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// In what this definition differs from another one, without the secrets that either may hold. Two
    /// ways to write the same origin are none.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let same_origin = self.settings.origin == other.settings.origin;
        let of = |keys: &Keys, key: &str| keys.get(key).cloned().unwrap_or_default();
        let is_same = |key: &str, this: &Json, that: &Json| {
            let is_origin = |spec: &&super::keys::Key| matches!(spec.kind, Kind::Origin);
            let is_origin = GROUP_KEYS.iter().filter(is_origin).any(|spec| spec.path == key);
            this == that || (is_origin && same_origin)
        };
        let names = GROUP_KEYS.iter().map(|spec| spec.path);
        names
            .map(|key| (key, of(&self.keys, key), of(&other.keys, key)))
            .filter(|(key, this, that)| !is_same(key, this, that))
            .map(|(key, this, other)| {
                let (this, other) = (without_secrets(this), without_secrets(other));
                Difference { key: key.to_owned(), this, other }
            })
            .collect()
    }

    /// Why this definition may not be kept where many can read it: it holds a secret itself instead of
    /// naming the variable that does.
    ///
    /// # Errors
    /// [`ConfigError`] that names each secret's key, not the secret.
    pub fn check_secrets(&self, name: &GroupName, from: &'static str) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let path = format!("{}.origin", groups::path(name.as_str()));
        let origin = self.keys.get("origin").map(figment);
        origins::each_secret(origin.unwrap_or_else(|| "".into()), |key, _| {
            let message =
                "what is or may be a secret is not kept in the cluster state; name a variable of \
                           the nodes' environment in its place, like \"${TOKEN}\""
                    .to_owned();
            let key = key.iter().fold(path.clone(), |path, name| format!("{path}.{}", step(name)));
            problems.push(Problem { key, value: None, origin: Origin::named(from), message });
        });
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
    }
}

/// Whether keys of a definition are of use depends on their settings: they can be read as such.
impl Deref for GroupDefinition {
    type Target = GroupSettings;

    fn deref(&self) -> &GroupSettings {
        &self.settings
    }
}

impl DerefMut for GroupDefinition {
    fn deref_mut(&mut self) -> &mut GroupSettings {
        &mut self.settings
    }
}

/// The definition of a group that is only named.
impl Default for GroupDefinition {
    fn default() -> Self {
        let name = GroupName::new("g").expect("a letter is a name");
        Self::read(&name, &Keys::new(), "default").expect("the defaults are in order")
    }
}

/// A value as it may be logged; only an origin has secrets.
fn without_secrets(value: Json) -> Json {
    if !value.is_object() {
        return value;
    }
    serde_json::to_value(origins::without_secrets(figment(&value))).unwrap_or_default()
}

fn json(value: &Parsed) -> Json {
    match value {
        Parsed::Number(number) => (*number).into(),
        // As it is written, and not as what a division makes of it.
        Parsed::Decimal(_) => serde_json::from_str(&value.to_toml()).unwrap_or_default(),
        Parsed::Size(bytes) => size_text(*bytes).into(),
        Parsed::Duration(span) => humantime::format_duration(*span).to_string().into(),
        Parsed::Switch(on) => (*on).into(),
        Parsed::Text(text) => text.clone().into(),
        Parsed::List(items) => items.clone().into(),
    }
}

fn figment(value: &Json) -> Value {
    // JSON has nothing that figment has not.
    Value::serialize(value).unwrap_or_else(|_| Value::from(""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name() -> GroupName {
        GroupName::new("users").unwrap()
    }

    fn keys(keys: Json) -> Keys {
        keys.as_object().unwrap().clone()
    }

    fn read(table: Json) -> Result<GroupDefinition, ConfigError> {
        GroupDefinition::read(&name(), &keys(table), "request body")
    }

    #[test]
    fn a_definition_has_every_key_and_reads_back() {
        let definition = read(json!({"capacity": "1GiB", "near": false, "ttl": "90s"})).unwrap();
        assert_eq!((definition.capacity, definition.near), (1 << 30, false));
        assert_eq!(definition.keys()["ttl"], "1m 30s");
        for spec in GROUP_KEYS.iter().filter(|spec| !matches!(spec.kind, Kind::Origin)) {
            let has_default = matches!(spec.fallback, super::super::keys::Fallback::Value(_));
            assert_eq!(definition.keys().contains_key(spec.path), has_default, "{}", spec.path);
        }
        assert_eq!(read(Json::Object(definition.keys().clone())).unwrap(), definition);
        assert_eq!(GroupDefinition::default().settings, GroupSettings::default());
    }

    #[test]
    fn mistakes_are_told_as_those_of_a_file_all_at_once() {
        let wrong = json!({"capcity": 1, "ttl": 5, "near": null, "origin": {"kind": "magic"}});
        let error = read(wrong).unwrap_err().to_string();
        for part in [
            "groups.users.capcity (request body): there is no such key; did you mean capacity?",
            "groups.users.ttl = 5 (request body): this is not a duration",
            "groups.users.near",
            "groups.users.origin.kind = \"magic\" (request body)",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = read(json!({"capacity": "1KiB", "max_value": "2KiB"})).unwrap_err();
        assert_eq!(error.problems()[0].key, "groups.users.max_value");
    }

    #[test]
    fn what_a_later_version_wrote_is_read_as_far_as_it_is_known() {
        let later = keys(json!({"ttl": "5s", "colour": "red"}));
        assert_eq!(GroupDefinition::read_known(&name(), &later).unwrap().ttl.as_secs(), 5);
        assert!(GroupDefinition::read_known(&name(), &keys(json!({"ttl": "red"}))).is_err());
    }

    #[test]
    fn differences_are_told_key_by_key() {
        let url = "http://h/{key}";
        let this = read(json!({"origin": {"kind": "http", "url": url}})).unwrap();
        let timeout = json!({"kind": "http", "url": url, "timeout": "5s"});
        let same = read(json!({"origin": timeout, "ttl": "60m"})).unwrap();
        assert_eq!(this.differences(&same), []);
        let other = read(json!({"ttl": "1s"})).unwrap();
        let keys: Vec<_> = this.differences(&other).into_iter().map(|it| it.key).collect();
        assert_eq!(keys, ["ttl", "origin"]);
        assert_eq!(this.differences(&other)[0].to_string(), "ttl = \"1h\" (not \"1s\")");
    }

    #[test]
    fn secrets_are_named_and_not_kept() {
        let with = |header: &str, value: &str| {
            let headers = json!({header: value});
            let origin = json!({"kind": "http", "url": "http://h/{key}", "headers": headers});
            read(json!({ "origin": origin })).unwrap().check_secrets(&name(), "request body")
        };
        let error = with("Authorization", "Bearer sesame").unwrap_err().to_string();
        assert!(
            error.contains("groups.users.origin.headers.Authorization (request body)"),
            "{error}"
        );
        assert!(!error.contains("sesame"), "{error}");
        assert!(with("x_api_key", "sesame").is_err());
        assert!(with("Authorization", "Bearer ${TOKEN}").is_ok());
        assert!(with("Accept", "application/json").is_ok());
        let table = json!({"kind": "static", "values": {"password": "1234"}});
        assert!(read(json!({"origin": table})).unwrap().check_secrets(&name(), "x").is_ok());
        for (origin, is_kept) in [
            (
                json!({"kind": "http", "url": "http://h/{key}", "headers": {"X-Auth-Key": "x"}}),
                false,
            ),
            (json!({"kind": "http", "url": "http://h:80/a:b@c/{key}"}), true),
            (sql("postgres://u:p@h/d"), false),
            (sql("postgres://u:se/same@h/d"), false),
            (sql("postgres://u:${P}@h/d"), true),
            (sql("postgres://u@h:1/d"), true),
            (redis(json!({"cluster_endpoints": "redis://h1,redis://u:p@h2"})), false),
            (redis(json!({"cluster_endpoints": "redis://h1,redis://h2"})), true),
            (redis(json!({"endpoint": "redis://h1", "password": "p"})), false),
            (s3("server_side_encryption_customer_key"), false),
            (s3("region"), true),
        ] {
            let checked = read(json!({"origin": origin})).unwrap().check_secrets(&name(), "x");
            assert_eq!(checked.is_ok(), is_kept, "{origin}: {checked:?}");
        }
    }

    #[test]
    fn differences_tell_no_secrets() {
        let of = |origin: Json| read(json!({ "origin": origin })).unwrap();
        let differences = of(sql("postgres://u:sesame@h/d")).differences(&of(s3("session_token")));
        let told = differences.iter().map(ToString::to_string).collect::<String>();
        assert!(told.contains("postgres") && !told.contains("sesame"), "{told}");
    }

    fn sql(url: &str) -> Json {
        json!({"kind": "sql", "url": url, "query": "SELECT value FROM t WHERE key = $1"})
    }

    fn redis(options: Json) -> Json {
        json!({"kind": "opendal", "scheme": "redis", "path": "{key}", "options": options})
    }

    fn s3(option: &str) -> Json {
        let options = json!({"bucket": "b", option: "sesame"});
        json!({"kind": "opendal", "scheme": "s3", "path": "{key}", "options": options})
    }
}

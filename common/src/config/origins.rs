//! The setting `origin` of a group: where its missing values come from, checked to the leaf.
//!
//! Names of environment variables (`${TOKEN}`) stay names here: whoever asks the origin looks them up,
//! so that no secret is in what settings show.

mod opendal;
mod sql;
mod statement;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use figment::value::{Dict, Value};
use http::{HeaderName, HeaderValue, Uri};

use super::{
    kind::{Kind, Parsed, step},
    layers::Layers,
    problem::{Problem, shown},
};
use crate::key::{GroupName, Key};

pub use self::{
    opendal::{OpendalSettings, SERVICES, Service, is_plain_path},
    sql::{Database, MAX_SQL_LOADS, SqlSettings, check_sql},
};

/// What stands for the key in a template.
pub const KEY_PLACE: &str = "{key}";

/// How long a load may take unless its origin says otherwise.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);
/// Loads at a time unless the origin says otherwise.
pub const MAX_LOADS: usize = 64;
const LOADS: std::ops::RangeInclusive<u64> = 1..=16_384;

/// Words in the name of a setting that is a secret.
const SECRET_WORDS: [&str; 8] =
    ["secret", "password", "passwd", "token", "authorization", "api-key", "cookie", "credential"];
/// Headers whose values are no secrets.
const PLAIN_HEADERS: [&str; 7] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "from",
    "user-agent",
];

/// Where a group's missing values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginSettings {
    /// A table in the configuration itself.
    Static {
        /// Values by key.
        values: BTreeMap<Key, String>,
    },
    /// An HTTP server.
    Http(HttpSettings),
    /// A service that OpenDAL knows.
    Opendal(OpendalSettings),
    /// A database.
    Sql(SqlSettings),
}

/// An origin that is asked with HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// What is asked: a URL with [`KEY_PLACE`] in its path or query, for the key, percent-encoded.
    pub url: String,
    /// Headers that are sent; `${NAME}` in one is a variable of the node's environment.
    pub headers: BTreeMap<String, String>,
    /// How long a load may take, the wait for its turn included.
    pub timeout: Duration,
    /// Loads at a time.
    pub max_loads: usize,
    /// Whether the server may have a link-local address. Those of clouds' metadata are such.
    pub allow_link_local: bool,
}

/// Tells what is wrong: the key, the value, and how to mend it.
type Complain<'a> = &'a mut dyn FnMut(String, Option<&Value>, String);

/// Reads `origin = { kind = "static", values = { … } }` and its like.
pub(super) fn read(
    layers: &Layers,
    name: &GroupName,
    problems: &mut Vec<Problem>,
) -> Option<OriginSettings> {
    let found = layers.find(&["groups", name.as_str(), "origin"])?;
    let key = format!("{}.origin", super::groups::path(name.as_str()));
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
        Some("static") => fixed(table, &key, &mut complain),
        Some("http") => http(table, &key, &mut complain).map(OriginSettings::Http),
        Some("opendal") => opendal::read(table, &key, &mut complain).map(OriginSettings::Opendal),
        Some("sql") => sql::read(table, &key, &mut complain).map(OriginSettings::Sql),
        named => {
            complain(format!("{key}.kind"), kind.as_ref(), not_built_in(named));
            None
        }
    }
}

fn not_built_in(kind: Option<&str>) -> String {
    const KINDS: &str = "\"static\", \"http\", \"opendal\" or \"sql\"";
    match kind {
        Some(kind) => {
            format!("origin kind {kind:?} is not built into this version; use {KINDS}")
        }
        None => format!("an origin has a kind: {KINDS}"),
    }
}

/// An origin as it may be shown: secrets masked, unless they name variables.
pub(super) fn without_secrets(origin: Value) -> Value {
    each_secret(origin, |_, value| *value = sql::masked(value.as_str().unwrap_or_default()).into())
}

/// Changes every value of an origin that is a secret, or may be one, and does not name a variable; with
/// the names that lead to it.
pub(super) fn each_secret(mut origin: Value, mut change: impl FnMut(&[&str], &mut Value)) -> Value {
    let Value::Dict(_, table) = &mut origin else { return origin };
    // The values of a static table are what everybody may read.
    for (name, value) in table.iter_mut().filter(|(name, _)| *name != "values") {
        match value {
            Value::Dict(_, inner) => {
                for (leaf, value) in inner.iter_mut() {
                    if is_secret(Some(name), leaf, value) {
                        change(&[name, leaf], value);
                    }
                }
            }
            value if is_secret(None, name, value) => change(&[name], value),
            _ => {}
        }
    }
    origin
}

fn is_secret(under: Option<&str>, name: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let plain_name = name.to_lowercase().replace('_', "-");
    let is_named_so = match under {
        // Any of them may be what a server knows its clients by.
        Some("headers") => !PLAIN_HEADERS.contains(&&*plain_name),
        _ => opendal::is_secret(name) || SECRET_WORDS.iter().any(|word| plain_name.contains(word)),
    };
    (is_named_so && !text.contains("${")) || text.split(',').any(sql::has_password)
}

/// How long a load may take, and how many there are at a time.
fn limits(
    table: &mut Dict,
    key: &str,
    max_loads: (u64, std::ops::RangeInclusive<u64>),
    complain: Complain<'_>,
) -> Option<(Duration, usize)> {
    let (usual, loads) = max_loads;
    let timeout = Kind::Duration(TIMEOUTS);
    let timeout = limit(table, key, "timeout", &timeout, Parsed::Duration(LOAD_TIMEOUT), complain);
    let loads = Kind::Number(loads);
    let loads = limit(table, key, "max_loads", &loads, Parsed::Number(usual), complain);
    match (timeout, loads) {
        (Some(Parsed::Duration(timeout)), Some(Parsed::Number(loads))) => {
            Some((timeout, loads as usize))
        }
        _ => None,
    }
}

fn limit(
    table: &mut Dict,
    key: &str,
    leaf: &str,
    kind: &Kind,
    usual: Parsed,
    complain: Complain<'_>,
) -> Option<Parsed> {
    let Some(value) = table.remove(leaf) else { return Some(usual) };
    let parsed = kind.parse(&value);
    parsed.map_err(|message| complain(format!("{key}.{leaf}"), Some(&value), message)).ok()
}

fn link_local(table: &mut Dict, key: &str, complain: Complain<'_>) -> Option<bool> {
    let usual = Parsed::Switch(false);
    match limit(table, key, "allow_link_local", &Kind::Switch, usual, complain)? {
        Parsed::Switch(allow) => Some(allow),
        _ => None,
    }
}

/// Complains of what is left in a table.
fn refuse_others(table: &Dict, key: &str, known: &str, complain: Complain<'_>) {
    for unknown in table.keys() {
        let message = format!("there is no such key; {known}");
        complain(format!("{key}.{}", step(unknown)), None, message);
    }
}

fn fixed(mut table: Dict, key: &str, complain: Complain<'_>) -> Option<OriginSettings> {
    let values = table.remove("values");
    refuse_others(&table, key, "an origin of kind \"static\" has values", complain);
    let key = format!("{key}.values");
    let Some(Value::Dict(_, values)) = values else {
        let message = "an origin of kind \"static\" has a table of values; write values = \
                       { Tom = \"630\" }";
        complain(key, values.as_ref(), message.into());
        return None;
    };
    let values = texts(values, &key, |name| Key::new(name).map_err(|it| it.to_string()), complain);
    Some(OriginSettings::Static { values })
}

/// A table of texts: whole numbers and booleans are taken as they are written.
fn texts<K: Ord>(
    table: Dict,
    path: &str,
    name: impl Fn(String) -> Result<K, String>,
    complain: Complain<'_>,
) -> BTreeMap<K, String> {
    let mut texts = BTreeMap::new();
    for (key, value) in table {
        let at = format!("{path}.{}", step(&key));
        let text = match &value {
            Value::String(_, text) => Some(text.clone()),
            Value::Bool(_, on) => Some(on.to_string()),
            Value::Num(_, number) => number.to_i128().map(|number| number.to_string()),
            _ => None,
        };
        match (name(key), text) {
            (Ok(key), Some(text)) => drop(texts.insert(key, text)),
            (Err(error), _) => complain(at, None, error),
            (_, None) => complain(at, Some(&value), "a value is a text; write it in quotes".into()),
        }
    }
    texts
}

fn http(mut table: Dict, key: &str, complain: Complain<'_>) -> Option<HttpSettings> {
    let at = |leaf: &str| format!("{key}.{leaf}");
    let url = match table.remove("url") {
        Some(Value::String(_, url)) => Some(url),
        other => {
            let message = "an origin of kind \"http\" has a url; write url = \
                           \"http://127.0.0.1:9000/users/{key}\"";
            complain(at("url"), other.as_ref(), message.into());
            None
        }
    };
    let headers = match table.remove("headers") {
        None => Some(BTreeMap::new()),
        Some(Value::Dict(_, table)) => Some(headers(table, &at("headers"), complain)),
        Some(other) => {
            let message = "headers are a table; write headers = { Accept = \"application/json\" }";
            complain(at("headers"), Some(&other), message.into());
            None
        }
    };
    let limits = limits(&mut table, key, (MAX_LOADS as u64, LOADS), complain);
    let allow_link_local = link_local(&mut table, key, complain);
    let known =
        "an origin of kind \"http\" has url, headers, timeout, max_loads and allow_link_local";
    refuse_others(&table, key, known, complain);
    let ((timeout, max_loads), allow_link_local) = (limits?, allow_link_local?);
    let url = url?;
    if let Err(message) = check_url(&url, allow_link_local) {
        complain(at("url"), Some(&sql::without_password(&url).into()), message);
        return None;
    }
    Some(HttpSettings { url, headers: headers?, timeout, max_loads, allow_link_local })
}

fn headers(table: Dict, path: &str, complain: Complain<'_>) -> BTreeMap<String, String> {
    let name = |name: String| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(_) => Err("this is no name of a header".to_owned()),
    };
    let headers = texts(table, path, name, complain);
    for (name, value) in &headers {
        if HeaderValue::from_str(value).is_err() {
            let message = "a header has no control characters".to_owned();
            complain(format!("{path}.{}", step(name)), None, message);
        }
    }
    headers
}

/// Whether a template is one whose scheme and host are fixed, whatever the key is.
fn check_url(url: &str, allow_link_local: bool) -> Result<(), String> {
    let example = "write one like \"http://127.0.0.1:9000/users/{key}\"";
    let (before, _) = url
        .split_once(KEY_PLACE)
        .ok_or_else(|| format!("the url has no {KEY_PLACE}; {example}"))?;
    let filled = url.replace(KEY_PLACE, "k");
    if filled.contains(['{', '}']) {
        return Err(format!("only {KEY_PLACE} may be in braces; {example}"));
    }
    let host_at = before.find("://").map_or(0, |at| at + 3);
    if !before[host_at..].contains('/') {
        return Err(format!("{KEY_PLACE} is in the host; it may be in the path or the query"));
    }
    check_server(&filled, allow_link_local, example)
}

/// Whether a URL is one of a server that may be asked over HTTP.
fn check_server(url: &str, allow_link_local: bool, example: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}; {example}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("the url begins with http:// or https://; {example}"));
    }
    let authority = uri.authority().ok_or_else(|| format!("the url has no host; {example}"))?;
    if authority.as_str().contains('@') {
        return Err("the url has a user; leave that to the origin's headers or options, with the \
                    secret in the environment"
            .into());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(address) if !allow_link_local && is_link_local(address) => Err(format!(
            "{address} is a link-local address, where clouds keep their machines' secrets; set \
             allow_link_local = true if it is meant"
        )),
        _ => Ok(()),
    }
}

/// Whether an address is one that only the same link reaches, or a metadata service of a cloud.
pub fn is_link_local(address: IpAddr) -> bool {
    /// Alibaba Cloud's, which is in the range for carriers.
    const OTHER_METADATA: [u8; 4] = [100, 100, 100, 200];
    match address.to_canonical() {
        IpAddr::V4(it) => it.is_link_local() || it.octets() == OTHER_METADATA,
        // AWS's fd00:ec2::254 is unique-local, not link-local.
        IpAddr::V6(it) => it.is_unicast_link_local() || it.segments()[..2] == [0xfd00, 0xec2],
    }
}

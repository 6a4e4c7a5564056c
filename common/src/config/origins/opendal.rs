//! Origins of kind `opendal`: a service that OpenDAL knows, with a path for every key.
//!
//! OpenDAL itself takes any option and ignores those that it does not know; a mistyped one would go
//! unnoticed. So the services and their options are listed here, those that matter for reading.
//! Which of the services a node was built with, only the node knows.

use std::{collections::BTreeMap, time::Duration};

use figment::value::{Dict, Value};

use super::{
    Complain, KEY_PLACE, LOADS, MAX_LOADS, check_server, limits, link_local, refuse_others, texts,
};
use crate::config::kind::step;

/// An origin that OpenDAL reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpendalSettings {
    /// The service, one of [`SERVICES`].
    pub scheme: String,
    /// What is read: a path below the service's root, with [`KEY_PLACE`] for the key.
    pub path: String,
    /// The service's options; `${NAME}` in one is a variable of the node's environment.
    pub options: BTreeMap<String, String>,
    /// How long a load may take, the wait for its turn included.
    pub timeout: Duration,
    /// Loads at a time.
    pub max_loads: usize,
    /// Whether a service over HTTP may have a link-local address.
    pub allow_link_local: bool,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// What a configuration calls it.
    pub scheme: &'static str,
    /// The feature of `cachenode` that brings it; none: it is always there.
    pub feature: Option<&'static str>,
    /// Options that are no secrets.
    options: &'static [&'static str],
    /// Options that are masked where settings are shown.
    secrets: &'static [&'static str],
    /// The option that it can't do without, and one as an example.
    needs: Option<(&'static str, &'static str)>,
}

/// Every service, in the order in which they are told.
pub const SERVICES: [Service; 5] = [
    Service {
        scheme: "fs",
        feature: None,
        options: &["root"],
        secrets: &[],
        needs: Some(("root", "/srv/users")),
    },
    Service {
        scheme: "http",
        feature: None,
        options: &["endpoint", "root", "username"],
        secrets: &["password", "token"],
        needs: Some(("endpoint", "http://127.0.0.1:9000")),
    },
    Service { scheme: "memory", feature: None, options: &["root"], secrets: &[], needs: None },
    Service {
        scheme: "redis",
        feature: Some("redis"),
        options: &["endpoint", "cluster_endpoints", "root", "username", "db"],
        secrets: &["password"],
        needs: None,
    },
    Service {
        scheme: "s3",
        feature: Some("s3"),
        options: &[
            "bucket",
            "root",
            "endpoint",
            "region",
            "profile",
            "role_arn",
            "external_id",
            "role_session_name",
            "disable_config_load",
            "skip_signature",
            "allow_anonymous",
            "enable_virtual_host_style",
            "enable_request_payer",
            "server_side_encryption_customer_algorithm",
        ],
        secrets: &[
            "access_key_id",
            "secret_access_key",
            "session_token",
            "server_side_encryption_customer_key",
        ],
        needs: Some(("bucket", "users")),
    },
];

/// Whether an option's value is masked where settings are shown.
pub(super) fn is_secret(option: &str) -> bool {
    SERVICES.iter().any(|service| service.secrets.contains(&option))
}

/// Whether a path names something below the root that it is relative to, in the only way that there
/// is: services take blanks around it, doubled slashes and the like away, and fs follows `..`.
pub fn is_plain_path(path: &str) -> bool {
    let is_name = |step: &str| !matches!(step, "" | "." | "..");
    path.split('/').all(is_name)
        && path.trim() == path
        && !path.contains(|it: char| it.is_control() || it == '\\')
}

pub(super) fn read(mut table: Dict, key: &str, complain: Complain<'_>) -> Option<OpendalSettings> {
    let at = |leaf: &str| format!("{key}.{leaf}");
    let service = scheme(table.remove("scheme").as_ref(), &at("scheme"), complain);
    let path = path(table.remove("path").as_ref(), &at("path"), complain);
    let options = match table.remove("options") {
        None => Some(BTreeMap::new()),
        Some(Value::Dict(_, table)) => Some(texts(table, &at("options"), Ok, complain)),
        Some(other) => {
            let message = "options are a table; write options = { root = \"/srv/users\" }";
            complain(at("options"), Some(&other), message.into());
            None
        }
    };
    let limits = limits(&mut table, key, (MAX_LOADS as u64, LOADS), complain);
    let allow_link_local = link_local(&mut table, key, complain);
    let known = "an origin of kind \"opendal\" has scheme, path, options, timeout, max_loads and \
                 allow_link_local";
    refuse_others(&table, key, known, complain);
    let (service, path, options) = (service?, path?, options?);
    let ((timeout, max_loads), allow_link_local) = (limits?, allow_link_local?);
    if !check_options(service, &options, allow_link_local, &at("options"), complain) {
        return None;
    }
    let scheme = service.scheme.to_owned();
    Some(OpendalSettings { scheme, path, options, timeout, max_loads, allow_link_local })
}

fn scheme(value: Option<&Value>, key: &str, complain: Complain<'_>) -> Option<&'static Service> {
    let named = value.and_then(Value::as_str);
    let service = SERVICES.iter().find(|service| Some(service.scheme) == named);
    if service.is_none() {
        let schemes = SERVICES.map(|service| format!("{:?}", service.scheme)).join(", ");
        let problem = match named {
            Some(_) => "there is no such service",
            None => "an origin of kind \"opendal\" has a scheme",
        };
        complain(key.to_owned(), value, format!("{problem}; the services are {schemes}"));
    }
    service
}

fn path(value: Option<&Value>, key: &str, complain: Complain<'_>) -> Option<String> {
    let text = value.and_then(Value::as_str);
    let filled = text.map(|text| text.replace(KEY_PLACE, "k"));
    let problem = match (text, filled) {
        (Some(text), Some(filled)) if text.contains(KEY_PLACE) => {
            if filled.contains(['{', '}']) {
                "only {key} may be in braces"
            } else if is_plain_path(&filled) {
                return Some(text.to_owned());
            } else {
                "a path is relative to the root, and has no empty steps, \".\", \"..\", \
                 backslashes, or blanks around it"
            }
        }
        (Some(_), _) => "the path has no {key}",
        (None, _) => "an origin of kind \"opendal\" has a path",
    };
    complain(key.to_owned(), value, format!("{problem}; write one like \"{{key}}.json\""));
    None
}

/// Whether a service can do with these options.
fn check_options(
    service: &Service,
    options: &BTreeMap<String, String>,
    allow_link_local: bool,
    key: &str,
    complain: Complain<'_>,
) -> bool {
    let scheme = service.scheme;
    let mut is_good = true;
    let mut complain = |leaf: &str, value: Option<&str>, message: String| {
        is_good = false;
        complain(format!("{key}.{}", step(leaf)), value.map(Value::from).as_ref(), message);
    };
    let known = || service.options.iter().chain(service.secrets);
    for unknown in options.keys().filter(|name| !known().any(|it| it == name)) {
        let all = known().copied().collect::<Vec<_>>().join(", ");
        complain(unknown, None, format!("there is no such option; {scheme:?} has {all}"));
    }
    if let Some((needed, example)) = service.needs
        && options.get(needed).is_none_or(String::is_empty)
    {
        let message = format!("{scheme:?} needs it; write {needed} = \"{example}\"");
        complain(needed, None, message);
    }
    let given = |option: &str| options.get(option).map(String::as_str);
    if let Some(root) = given("root").filter(|root| scheme == "fs" && !root.starts_with('/')) {
        complain("root", Some(root), "give the directory from the top, \"/srv/users\"".into());
    }
    // With a variable in it, it can only be judged where that is known.
    if let Some(url) = given("endpoint").filter(|url| !url.contains("${")) {
        let shown = super::sql::without_password(url);
        let checked = match scheme {
            "redis" if url.contains('@') => {
                Err("the endpoint has a user; give username and password as options".to_owned())
            }
            "redis" => Ok(()),
            _ => check_server(url, allow_link_local, "write one like \"http://127.0.0.1:9000\""),
        };
        if let Err(message) = checked {
            complain("endpoint", Some(&shown), message);
        }
    }
    is_good
}

//! Origins of kind `sql`: a database that is asked with one query.
//!
//! What can be told from the settings alone is told here, before anything is connected to: that there
//! is one statement, which only reads, with the key as its one parameter. What a node does with them,
//! read-only connections and the rest, it does besides.

use std::{path::PathBuf, time::Duration};

use figment::value::{Dict, Value};

use super::{Complain, limits, refuse_others, statement};
use crate::security::MASK;

/// Connections to a database at a time unless the origin says otherwise.
pub const MAX_SQL_LOADS: usize = 8;
/// A connection is a process of the database's or a thread of the node's.
const SQL_LOADS: std::ops::RangeInclusive<u64> = 1..=256;
/// What may follow the `?` of a PostgreSQL URL: nothing that holds a secret, nor options, which are
/// the node's.
const PARAMETERS: [&str; 7] =
    ["host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "application_name"];

/// An origin that is a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlSettings {
    /// Where it is, `postgres://…` or `sqlite:///…`; `${NAME}` in it is a variable of the node's
    /// environment.
    pub url: String,
    /// What is asked, with `$1` for the key.
    pub query: String,
    /// How long a load may take, the wait for its turn included, and a statement too.
    pub timeout: Duration,
    /// Loads, and so connections, at a time.
    pub max_loads: usize,
}

/// A database that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres,
    /// A file of SQLite.
    Sqlite(PathBuf),
}

/// Judges a URL and a query without asking anybody. A URL that is all variable says little: whoever
/// knows what is in it judges again.
///
/// # Errors
/// The field, and what is wrong with it.
pub fn check_sql(url: &str, query: &str) -> Result<Option<Database>, (&'static str, String)> {
    let database = if url.starts_with("${") { None } else { Some(database(url)) };
    let database = database.transpose().map_err(|why| ("url", why))?;
    statement::check(query, database.as_ref()).map_err(|why| {
        let example = "write one like \"SELECT value FROM users WHERE key = $1\"";
        ("query", format!("{why}; {example}"))
    })?;
    Ok(database)
}

fn database(url: &str) -> Result<Database, String> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.contains('?') {
            return Err("a file of SQLite has no parameters; it is opened for reading only".into());
        }
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(
                "give the file from the top, with three slashes: sqlite:///srv/users.db".to_owned()
            );
        }
        return Ok(Database::Sqlite(path.into()));
    }
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else {
        return Err("the url begins with postgres:// or sqlite://".to_owned());
    };
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) {
            let known = PARAMETERS.join(", ");
            return Err(format!("{name} can't be given after the '?'; {known} can"));
        }
    }
    Ok(Database::Postgres)
}

/// A URL as it may be shown.
pub(super) fn without_password(url: &str) -> String {
    let masked = |(before, after)| format!("{before}{MASK}{after}");
    around_password(url).map_or_else(|| url.to_owned(), masked)
}

/// A secret as it may be shown: URLs, of which there may be several, without their passwords, anything else
/// not at all.
pub(super) fn masked(secret: &str) -> String {
    if !secret.split(',').any(|url| around_password(url).is_some()) {
        return MASK.to_owned();
    }
    secret.split(',').map(without_password).collect::<Vec<_>>().join(",")
}

/// Whether a text is a URL with a password in it that is not the name of a variable.
pub(super) fn has_password(text: &str) -> bool {
    let http = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    // Such a URL may well have an '@' in its path, and with a slash in the password it is none.
    let is_in_path = |rest: &str| !rest.split('/').next().unwrap_or(rest).contains('@');
    around_password(text).is_some() && !http.is_some_and(is_in_path)
}

/// What is before and after the password of a URL, unless a variable is named in its place.
fn around_password(url: &str) -> Option<(&str, &str)> {
    let start = url.find("://")? + "://".len();
    let rest = &url[start..];
    let end = rest.find('/').unwrap_or(rest.len());
    // A password may hold a slash, although it should not.
    let at = rest[..end].rfind('@').or_else(|| rest.rfind('@'))?;
    let colon = rest[..at].find(':')?;
    let password = &rest[colon + 1..at];
    let is_named = password.is_empty() || (password.starts_with("${") && password.ends_with('}'));
    (!is_named).then(|| (&url[..start + colon + 1], &rest[at..]))
}

pub(super) fn read(mut table: Dict, key: &str, complain: Complain<'_>) -> Option<SqlSettings> {
    let mut text = |leaf: &str, example: &str| match table.remove(leaf) {
        Some(Value::String(_, text)) => Some(text),
        other => {
            let message =
                format!("an origin of kind \"sql\" has a {leaf}; write {leaf} = \"{example}\"");
            complain(format!("{key}.{leaf}"), other.as_ref(), message);
            None
        }
    };
    let url = text("url", "postgres://app:${DB_PASSWORD}@127.0.0.1/app");
    let query = text("query", "SELECT value FROM users WHERE key = $1");
    let limits = limits(&mut table, key, (MAX_SQL_LOADS as u64, SQL_LOADS), complain);
    let known = "an origin of kind \"sql\" has url, query, timeout and max_loads";
    refuse_others(&table, key, known, complain);
    let (url, query, (timeout, max_loads)) = (url?, query?, limits?);
    if let Err((leaf, why)) = check_sql(&url, &query) {
        let shown = if leaf == "url" { without_password(&url) } else { query };
        complain(format!("{key}.{leaf}"), Some(&shown.into()), why);
        return None;
    }
    Some(SqlSettings { url, query, timeout, max_loads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("postgres://app:sesame@h/db", "postgres://app:********@h/db"),
            ("postgres://app:se:s@me@h:1/db?x=a@b", "postgres://app:********@h:1/db?x=a@b"),
            ("postgres://app:se/same@h/db", "postgres://app:********@h/db"),
            ("postgres://app:${PASSWORD}@h/db", "postgres://app:${PASSWORD}@h/db"),
            ("postgres://app:x${PASSWORD}@h/db", "postgres://app:********@h/db"),
            ("postgres://app@h/db", "postgres://app@h/db"),
            ("sqlite:///srv/users.db", "sqlite:///srv/users.db"),
            ("${DATABASE_URL}", "${DATABASE_URL}"),
            ("http://u:p@h/{key}", "http://u:********@h/{key}"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_url_names_a_database() {
        const QUERY: &str = "SELECT 1 WHERE '' = $1";
        let file = Database::Sqlite("/srv/users.db".into());
        for (url, database) in [
            ("postgres://app@h/db", Some(Database::Postgres)),
            ("postgresql:///db?host=/run/postgresql&sslmode=disable", Some(Database::Postgres)),
            ("sqlite:///srv/users.db", Some(file)),
            ("${DATABASE_URL}", None),
        ] {
            assert_eq!(check_sql(url, QUERY), Ok(database), "{url}");
        }
    }
}

//! Where a key is asked for: a URL with a place for it.

use std::net::IpAddr;

use common::config::KEY_PLACE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use crate::origin::LoadError;

/// What stays as it is in a path and in a query (RFC 3986, 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A URL, cut at the places of the key.
#[derive(Debug)]
pub(super) struct Template(Vec<String>);

impl Template {
    /// # Errors
    /// Why it is no URL, for people.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let template = Self(url.split(KEY_PLACE).map(str::to_owned).collect());
        let (text, parsed) = template.filled("k").map_err(|why| format!("origin.url: {why}"))?;
        if is_as_written(&text, &parsed) {
            return Ok(template);
        }
        Err(format!("origin.url: {text} means {parsed}; write that, percent-encoded"))
    }

    /// Whether it is asked without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.0[0].starts_with("http://")
    }

    /// The host, if it is an address, however it is written.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let (_, url) = self.filled("k").ok()?;
        super::address(&url)
    }

    /// The URL of a key.
    ///
    /// # Errors
    /// The key would lead elsewhere: `..` is the parent of a path, encoded or not.
    pub(super) fn with(&self, key: &str) -> Result<Url, LoadError> {
        let key = utf8_percent_encode(key, UNRESERVED).to_string();
        let (text, url) = self.filled(&key).map_err(LoadError::Failed)?;
        if is_as_written(&text, &url) { Ok(url) } else { Err(LoadError::Refused) }
    }

    fn filled(&self, key: &str) -> Result<(String, Url), String> {
        let text = self.0.join(key);
        let url = Url::parse(&text).map_err(|error| error.to_string())?;
        Ok((text, url))
    }
}

/// Whether path and query are what was written, and nothing in them was understood.
fn is_as_written(text: &str, url: &Url) -> bool {
    let written = text.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    written == Some(&format!("{}{query}", url.path())) && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(url: &str) -> Template {
        Template::new(url).unwrap()
    }

    #[test]
    fn a_key_is_one_piece_of_a_path_or_a_query() {
        let path = template("http://h:1/users/{key}");
        let query = template("https://h/get?u={key}&again={key}");
        assert!(path.is_plain() && !query.is_plain());
        for (key, encoded) in [
            ("Tom", "Tom"),
            ("a/b c?d#e&f=%2e", "a%2Fb%20c%3Fd%23e%26f%3D%252e"),
            ("../../etc", "..%2F..%2Fetc"),
            ("http://x@y", "http%3A%2F%2Fx%40y"),
            ("é\u{1F600}", "%C3%A9%F0%9F%98%80"),
            ("a\\b", "a%5Cb"),
            ("...", "..."),
        ] {
            let url = path.with(key).unwrap();
            assert_eq!(url.as_str(), format!("http://h:1/users/{encoded}"));
            let url = query.with(key).unwrap();
            assert_eq!(url.as_str(), format!("https://h/get?u={encoded}&again={encoded}"));
        }
    }

    #[test]
    fn a_key_that_would_lead_elsewhere_is_refused() {
        for url in ["http://h/users/{key}", "http://h/{key}/x", "http://h/a/{key}"] {
            for key in [".", ".."] {
                assert_eq!(template(url).with(key), Err(LoadError::Refused), "{url} {key}");
            }
        }
        assert!(template("http://h/get?u={key}").with("..").is_ok(), "there it is a text");
        // Together with what the template has around it.
        assert_eq!(template("http://h/.{key}").with("."), Err(LoadError::Refused));
    }

    #[test]
    fn a_template_is_written_as_it_is_sent() {
        for (url, hint) in [
            ("nonsense/{key}", "origin.url: "),
            ("http://h/a b/{key}", "a%20b"),
            ("http://h/a/../{key}", "http://h/k"),
            ("http://h/{key}#x", "origin.url: "),
        ] {
            let why = Template::new(url).unwrap_err();
            assert!(why.contains(hint), "{why}");
        }
    }
}

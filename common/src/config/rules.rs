//! What a text value may be: one small function per kind of text.
//!
//! Each says what is wrong and how to mend it; naming the key, the value and where it came from is
//! left to the caller, which knows.

use std::{collections::BTreeSet, net::Ipv6Addr};

use crate::{
    discovery::{MAX_NODE_ID_BYTES, NodeId, NodeIdError},
    key::GroupName,
    telemetry,
};

/// A rule: the text is fine, or a sentence about why it is not.
pub(super) type Rule = fn(&str) -> Result<(), String>;

/// Longest service or zone name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// Longest ring seed, in bytes.
pub(super) const MAX_SEED_BYTES: usize = 256;
/// Longest host name, in bytes (as in DNS).
pub(super) const MAX_HOST_BYTES: usize = 253;

pub(super) fn backend(text: &str) -> Result<(), String> {
    match text {
        "etcd" | "static" => Ok(()),
        "memory" => Err("\"memory\" is only for fleets that run inside one process; \
                         use \"etcd\", or \"static\" with discovery.nodes"
            .into()),
        _ => Err("there is no such backend; use \"etcd\" or \"static\"".into()),
    }
}

pub(super) fn service_name(text: &str) -> Result<(), String> {
    plain("the service name", text)
}

pub(super) fn zone(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { plain("the zone", text) }
}

pub(super) fn group(text: &str) -> Result<(), String> {
    GroupName::check(text).map_err(|error| error.to_string())
}

pub(super) fn seed(text: &str) -> Result<(), String> {
    if text.len() <= MAX_SEED_BYTES {
        return Ok(());
    }
    Err(format!("the seed is {} bytes long, the most is {MAX_SEED_BYTES}", text.len()))
}

/// A directory; whether it can be written is found out by whoever writes there.
pub(super) fn directory(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('\0') {
        return Err("this is no path of a directory; leave the key out to have none".into());
    }
    Ok(())
}

pub(super) fn filter(text: &str) -> Result<(), String> {
    telemetry::check_filter(text).map_err(|error| error.to_string())
}

/// The identity of a gateway or node.
pub(super) fn id(text: &str) -> Result<(), String> {
    match NodeId::new(text) {
        Ok(_) => Ok(()),
        Err(NodeIdError::Character(c)) => {
            Err(format!("an id can't hold {c:?}; letters, digits, '.', '-' and ':' are safe"))
        }
        Err(NodeIdError::Empty | NodeIdError::TooLong(_)) => {
            Err(format!("an id has 1 to {MAX_NODE_ID_BYTES} bytes, this one has {}", text.len()))
        }
    }
}

/// A host to bind or to dial, without a port.
pub(super) fn host(text: &str) -> Result<(), String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.unwrap_or(text).parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    if text.contains(':') {
        return Err("a host is given without a port and without \"://\"; \
                    the port has a key of its own"
            .into());
    }
    host_without_colons(text)
}

/// A `host:port` that others can dial.
pub(super) fn address(text: &str) -> Result<(), String> {
    let form = "give host:port, such as 10.0.0.7:9090 or [fd00::7]:9090";
    let (name, port) = text.rsplit_once(':').ok_or(format!("there is no port; {form}"))?;
    if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse().is_ok_and(|p: u16| p > 0) {
        return Err(format!("{port:?} is not a port from 1 to 65535; {form}"));
    }
    if let Some(v6) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let wrong = |_| format!("{v6:?} is not an IPv6 address; {form}");
        return v6.parse::<Ipv6Addr>().map(drop).map_err(wrong);
    }
    if name.contains(':') {
        return Err(format!("an IPv6 address goes in brackets; {form}"));
    }
    host_without_colons(name).map_err(|wrong| format!("{wrong}; {form}"))
}

/// An etcd endpoint: `host:port`, with or without `http://`.
pub(super) fn endpoint(text: &str) -> Result<(), String> {
    if text.starts_with("https://") {
        return Err("https is not built into this version; use http".into());
    }
    address(text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/'))
}

/// The rule of a list as a whole: nothing twice.
pub(super) fn distinct(items: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match items.iter().find(|item| !seen.insert(item.as_str())) {
        Some(twice) => Err(format!("{twice:?} is listed twice; leave one out")),
        None => Ok(()),
    }
}

/// A name, or an IPv4 address. Resolvers take `0`, `127.1` and `0x7f.1` for addresses too, which
/// would slip through the rules about them: what ends in a number must be a whole address.
fn host_without_colons(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() {
        return Err("the host is empty; give a name or an address".into());
    }
    if text.len() > MAX_HOST_BYTES {
        return Err(format!("a host has at most {MAX_HOST_BYTES} bytes"));
    }
    if let Some(c) = text.chars().find(|&c| !allowed(c)) {
        return Err(format!("a host can't hold {c:?}; give a name or an address"));
    }
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if is_number(last) && text.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!("{text:?} is not a whole IPv4 address, such as 127.0.0.1"));
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or(label.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn plain(what: &str, text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > MAX_NAME_BYTES {
        return Err(format!("{what} has 1 to {MAX_NAME_BYTES} characters"));
    }
    match text.chars().find(|&c| !allowed(c)) {
        Some(c) => Err(format!("{what} holds {c:?}; letters, digits, '.', '_' and '-' go")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_whole_addresses() {
        for good in
            ["127.0.0.1", "::", "[::1]", "localhost", "node-1.cache.local", "4f3c2a1b9d", "a_b"]
        {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in ["", "0", "127.1", "0x7f.0x1", "a b", "http://a", "a:80", "a/b", "[::1", "."] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_need_a_port_that_can_be_dialled() {
        for good in ["a:1", "10.0.0.7:9090", "[fd00::7]:65535"] {
            assert_eq!(address(good), Ok(()), "{good}");
        }
        for bad in ["a", "a:", "a:0", "a:+1", "a:65536", "fd00::7:9090", "[a]:1", ":9090", "0:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_may_carry_the_scheme_that_is_built_in() {
        for good in ["localhost:2379", "http://localhost:2379", "http://10.0.0.1:2379/"] {
            assert_eq!(endpoint(good), Ok(()), "{good}");
        }
        assert!(endpoint("https://localhost:2379").unwrap_err().contains("not built into"));
        assert!(endpoint("unix:///run/etcd").is_err());
    }

    #[test]
    fn ids_become_part_of_a_key() {
        assert_eq!(id("10.0.0.7:9090"), Ok(()));
        for bad in ["", "a/b", "a\nb", &"i".repeat(MAX_NODE_ID_BYTES + 1)] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }
}

//! What may be open to whom: the rule for listeners, and values that must not be printed.
//!
//! The rule is on the safe side: whatever is not certainly this machine alone is open to others.
//! This version has no authentication to offer instead, so a listener that others can reach has to
//! be allowed in so many words.

mod certificates;

use std::{fmt, net::IpAddr};

pub use certificates::{Certificates, Identity, PrivateKey};

/// The section `[security]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecuritySettings {
    /// Listeners that other machines can reach may start.
    pub allow_insecure: bool,
}

/// A listener that anyone could use, refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} would listen on {host}, open to everyone who can reach that address, and this version \
     has no authentication. Close it by listening on 127.0.0.1, or, in a network that only \
     trusted machines reach, allow it with --insecure (security.allow_insecure = true, \
     RINGWAY_SECURITY__ALLOW_INSECURE=true)"
)]
pub struct ExposedListener {
    name: String,
    host: String,
}

/// Refuses a listener that other machines can reach, unless the settings allow it. `name` is what
/// the message calls it, `host` what it is going to bind, without a port.
///
/// # Errors
/// [`ExposedListener`], which says how to close it.
pub fn check_listener(
    name: &str,
    host: &str,
    settings: &SecuritySettings,
) -> Result<(), ExposedListener> {
    if settings.allow_insecure || is_loopback(host) {
        return Ok(());
    }
    Err(ExposedListener { name: name.to_owned(), host: host.to_owned() })
}

/// Whether a host can only be reached from this machine. Of names only `localhost` counts: another
/// one may resolve to anything by the time it is bound.
pub fn is_loopback(host: &str) -> bool {
    match address(host) {
        Some(ip) => ip.is_loopback(),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a host stands for every address of the machine, and so for none that others could dial.
pub fn is_wildcard(host: &str) -> bool {
    address(host).is_some_and(|ip| ip.is_unspecified())
}

/// The host as an address, with IPv4 addresses in IPv6 clothes unwrapped.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// A value for programs only: it prints as `********`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What is shown in place of a secret.
pub const MASK: &str = "********";

impl Secret {
    /// Keeps a value from being printed.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Whoever calls this sees to it that it reaches no log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: SecuritySettings = SecuritySettings { allow_insecure: false };
    const OPEN: SecuritySettings = SecuritySettings { allow_insecure: true };

    #[test]
    fn loopback_needs_no_permission() {
        for host in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"] {
            assert_eq!(check_listener("the gateway", host, &CLOSED), Ok(()), "{host}");
        }
    }

    #[test]
    fn everything_else_does() {
        for host in ["0.0.0.0", "::", "10.1.2.3", "cache.example", "localhost.example", "", "0"] {
            assert!(check_listener("the gateway", host, &CLOSED).is_err(), "{host}");
            assert!(check_listener("the gateway", host, &OPEN).is_ok(), "{host}");
        }
    }

    #[test]
    fn the_refusal_says_what_is_open_and_how_to_close_it() {
        let message = check_listener("the gateway", "0.0.0.0", &CLOSED).unwrap_err().to_string();
        for part in ["the gateway", "0.0.0.0", "127.0.0.1", "--insecure", "allow_insecure"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn wildcards_are_recognised_in_every_spelling() {
        for host in ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0"] {
            assert!(is_wildcard(host), "{host}");
        }
        assert!(!is_wildcard("127.0.0.1"));
        assert!(!is_wildcard("localhost"));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("sesame");
        assert_eq!(format!("{secret} {secret:?}"), "******** ********");
        assert_eq!(secret.expose(), "sesame");
    }
}

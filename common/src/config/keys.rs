//! Every setting there is, as data: key, kind, default, flag, meaning.
//!
//! Reading, `--check-config`, the complaints about unknown names and the reference in the
//! documentation all go by this table, so that a setting exists in one place.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    kind::Kind,
    rules::{self, Rule},
};

/// The prefix of every variable.
pub(super) const PREFIX: &str = "RINGWAY_";
/// The variable that names the file, as `--config` does.
pub(super) const FILE_VARIABLE: &str = "RINGWAY_CONFIG";
/// Largest `max_value` of any group, in bytes.
pub const MAX_VALUE: u64 = 64 << 20;

/// Longest timeout: what waits longer is not a timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest lifetime of an entry, ten years of 365.25 days.
const MAX_LIFETIME: Duration = Duration::from_secs(315_576_000);
/// Shortest lease that etcd keeps to with its default election timeout.
const MIN_LEASE: Duration = Duration::from_secs(2);

const SIZES: RangeInclusive<u64> = 1..=(1 << 50);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=MAX_TIMEOUT;
const LIFETIMES: RangeInclusive<Duration> = Duration::ZERO..=MAX_LIFETIME;
/// Half of the lifetime, up and down, is as far as it may be from what was asked for.
const JITTERS: RangeInclusive<u64> = 0..=500;
const EARLINESS: RangeInclusive<u64> = 0..=10_000;
const PORTS: RangeInclusive<u64> = 0..=65_535;
const WORKERS: RangeInclusive<u64> = 0..=256;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
/// Not so few that a gateway which is well refuses anybody.
const IN_FLIGHT: RangeInclusive<u64> = 256..=1_000_000;
/// Any value fits.
const BODY_BYTES: RangeInclusive<u64> = MAX_VALUE..=1 << 50;

/// What a key is when no layer gives it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fallback {
    /// This value.
    Value(&'static str),
    /// Not set, which means this.
    Unset(&'static str),
}

/// Which binary takes a key's flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Both,
    Gateway,
    Node,
}

/// One setting.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its sections and name, `gateway.port`; for settings of groups the name alone.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) fallback: Fallback,
    pub(super) flag: Option<(&'static str, Takes)>,
    pub(super) secret: bool,
    pub(super) meaning: &'static str,
}

impl Key {
    /// The variable of a key outside of `[groups]`.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.to_uppercase().replace('.', "__"))
    }

    const fn flag(mut self, flag: &'static str, takes: Takes) -> Self {
        self.flag = Some((flag, takes));
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The key that a flag sets.
pub(super) fn of_flag(flag: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.flag.is_some_and(|(name, _)| name == flag))
}

const fn set(path: &'static str, kind: Kind, value: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, fallback: Fallback::Value(value), flag: None, secret: false, meaning }
}

const fn unset(path: &'static str, kind: Kind, means: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, fallback: Fallback::Unset(means), flag: None, secret: false, meaning }
}

const fn text(name: &'static str, rule: Rule) -> Kind {
    Kind::Text(name, rule)
}

/// Every key outside of `[groups]`, in the order of the documentation.
#[rustfmt::skip] // a table reads better as one
pub(super) static KEYS: &[Key] = &[
    set("discovery.backend", text("`etcd` or `static`", rules::backend), "etcd",
        "How processes find each other.").flag("discovery", Takes::Both),
    set("discovery.etcd_endpoints", Kind::List("host:port", rules::endpoint), "localhost:2379",
        "The members of the etcd cluster; those with `https://` before them are spoken to by TLS.")
        .flag("etcd-endpoints", Takes::Both),
    unset("discovery.etcd_username", text("name", rules::user), "nobody logs in",
        "The user of an etcd with authentication.").flag("etcd-username", Takes::Both),
    unset("discovery.etcd_password", text("text", rules::password), "nobody logs in",
        "The user's password. It has no flag, since other users of the machine see those.")
        .secret(),
    unset("discovery.etcd_ca_file", text("path", rules::path), "the system's authorities",
        "A PEM file with the authorities that may have signed etcd's certificate.")
        .flag("etcd-ca-file", Takes::Both),
    unset("discovery.etcd_cert_file", text("path", rules::path), "etcd is shown none",
        "A PEM file with this process's certificate, for an etcd that asks for one.")
        .flag("etcd-cert-file", Takes::Both),
    unset("discovery.etcd_key_file", text("path", rules::path), "etcd is shown none",
        "A PEM file with the certificate's private key.").flag("etcd-key-file", Takes::Both),
    set("discovery.service_name", text("name", rules::service_name), "ringway",
        "The cluster's name; its keys in etcd start with it.").flag("service-name", Takes::Both),
    set("discovery.lease_ttl", Kind::Seconds(MIN_LEASE..=MAX_TIMEOUT), "10s",
        "How long a node that went silent stays in the ring.").flag("lease-ttl", Takes::Node),
    set("discovery.nodes", Kind::List("host:port", rules::address), "",
        "The nodes' gRPC addresses, all of them, for the backend `static`.")
        .flag("static-nodes", Takes::Both),
    unset("discovery.state_dir", text("directory", rules::directory), "no snapshot is kept",
        "Where the last known ring is kept, to start with when etcd can't be reached.")
        .flag("state-dir", Takes::Both),
    unset("ring.virtual_nodes", Kind::Number(1..=10_000), "the cluster's, 100 in a new one",
        "Virtual nodes of a node of weight 100. Cluster state: a value that differs from the \
         cluster's is an error at start.").flag("virtual-nodes", Takes::Both),
    unset("ring.seed", text("text", rules::seed), "the cluster's, empty in a new one",
        "A secret of the cluster that keeps others from choosing keys that fall on one node. \
         Cluster state, as above.").secret(),
    set("gateway.host", text("host", rules::host), "127.0.0.1",
        "The address the gateway listens on.").flag("api-host", Takes::Gateway),
    set("gateway.port", Kind::Number(PORTS), "8080",
        "The gateway's HTTP port; 0 takes any free one.").flag("api-port", Takes::Gateway),
    unset("gateway.id", text("id", rules::id), "derived from host name and port",
        "The gateway's name in logs and towards nodes."),
    set("gateway.workers", Kind::Number(WORKERS), "0",
        "Worker threads; 0 is one per core, at most 8.").flag("workers", Takes::Gateway),
    set("gateway.request_timeout", Kind::Duration(TIMEOUTS), "2s",
        "The longest a request may take, with all its tries."),
    set("gateway.try_timeout", Kind::Duration(TIMEOUTS), "250ms",
        "The longest wait for a node's first answer before the next node is tried."),
    set("gateway.max_retries", Kind::Number(0..=2), "2",
        "How many more nodes are tried."),
    set("gateway.max_value", Kind::Size(1..=MAX_VALUE), "1MiB",
        "The largest body taken for a group that this file does not define."),
    set("gateway.max_connections", Kind::Number(CONNECTIONS), "10000",
        "The most connections at a time; further ones are closed at once."),
    set("gateway.max_in_flight", Kind::Number(IN_FLIGHT), "16384",
        "The most requests on keys under way at a time; further ones are answered 503 at once. \
         While answers are late it is fewer."),
    set("gateway.max_body_bytes_in_flight", Kind::Size(BODY_BYTES), "256MiB",
        "The most bytes of bodies, small ones aside, that are being read or written at a \
         time; what comes beyond is answered 503."),
    set("gateway.near_capacity", Kind::Size(0..=(1 << 40)), "4MiB",
        "Memory for hot values held in the gateway, of all its workers together; 0 holds none."),
    set("node.host", text("host", rules::host), "127.0.0.1",
        "The address the node listens on.").flag("node-host", Takes::Node),
    set("node.port", Kind::Number(PORTS), "9090",
        "The node's gRPC port; 0 takes any free one.").flag("node-port", Takes::Node),
    unset("node.http_port", Kind::Number(PORTS), "`port` + 1000, or a free one if that is busy",
        "The node's HTTP port, for metrics and probes.").flag("http-port", Takes::Node),
    unset("node.advertise_host", text("host", rules::host), "`host`",
        "The host under which others reach the node. Required where `host` is a wildcard.")
        .flag("advertise-host", Takes::Node),
    unset("node.id", text("id", rules::id), "the advertised host and port",
        "The node's name in the ring; keep it the same over restarts.")
        .flag("node-id", Takes::Node),
    set("node.zone", text("name", rules::zone), "",
        "The node's zone; replicas go to other zones first. Empty is none.")
        .flag("zone", Takes::Node),
    set("node.weight", Kind::Number(0..=10_000), "100",
        "The node's share of the ring; 100 is normal, 0 owns nothing.")
        .flag("weight", Takes::Node),
    set("node.workers", Kind::Number(WORKERS), "0",
        "Worker threads; 0 is one per core, at most 8."),
    set("node.max_connections", Kind::Number(CONNECTIONS), "10000",
        "The most connections at a time; further ones are closed at once."),
    set("node.drain_timeout", Kind::Duration(Duration::ZERO..=MAX_TIMEOUT), "10s",
        "How long a stopping node may take to finish what it has begun."),
    set("node.apply_groups", Kind::Switch, "false",
        "Groups of this node's file replace the cluster's definitions of them at its start; \
         otherwise the cluster's win.").flag("apply-groups", Takes::Node),
    set("node.group_name", text("name", rules::group), "scores",
        "The demo group that a node without `[groups]` serves.").flag("group-name", Takes::Node),
    set("node.cache_size", Kind::Size(SIZES), "64MiB",
        "The capacity of the demo group.").flag("cache-size", Takes::Node),
    set("node.ttl", Kind::Duration(LIFETIMES), "0s",
        "The lifetime of the demo group's entries; 0 is forever.").flag("ttl", Takes::Node),
    set("security.allow_insecure", Kind::Switch, "false",
        "Listeners that other machines can reach may start.").flag("insecure", Takes::Both),
    set("telemetry.log_level", text("filter", rules::filter), "info",
        "What is logged: a level, or `target=level` directives with commas between them.")
        .flag("log-level", Takes::Both),
    set("telemetry.log_format", Kind::Choice(&["text", "json"]), "text",
        "How log lines look.").flag("log-format", Takes::Both),
];

/// Every key of a group.
#[rustfmt::skip] // a table reads better as one
pub(super) static GROUP_KEYS: &[Key] = &[
    set("capacity", Kind::Size(SIZES), "64MiB",
        "Memory the group may take, on each node."),
    set("ttl", Kind::Duration(LIFETIMES), "1h",
        "The lifetime of an entry that was set or loaded without one; 0 is forever."),
    set("ttl_jitter", Kind::Decimal(JITTERS), "0.1",
        "By up to this part of it, up or down, `ttl` differs from entry to entry, so that what was \
         stored together is not over together. A lifetime that came with the entry is kept exactly."),
    set("idle", Kind::Duration(LIFETIMES), "0s",
        "Entries not read for this long go; 0 keeps them."),
    set("eviction", Kind::Choice(&["lru", "tinylfu"]), "lru",
        "Which entries go when the group is full: the least recently or the least often used."),
    set("max_value", Kind::Size(1..=MAX_VALUE), "1MiB",
        "The largest value; at most the capacity, which is the default where it is smaller."),
    set("partition", Kind::Choice(&["available", "strict"]), "available",
        "For keys whose owner can't be reached: the next node stands in, or they are unavailable."),
    set("near", Kind::Switch, "true",
        "Gateways may hold hot values in memory, under leases of 250 ms from their owner: never \
         stale, but a write of a held key waits for its holders, at most so long. Without effect \
         where `idle` is set."),
    set("negative_ttl", Kind::Duration(LIFETIMES), "1s",
        "How long it is remembered that an origin has no value for a key; 0 asks it again at every \
         read."),
    set("stale_while_revalidate", Kind::Duration(LIFETIMES), "0s",
        "For so long after its time a loaded value is still answered, at once, while the origin is asked \
         for the next reader."),
    set("stale_if_error", Kind::Duration(LIFETIMES), "0s",
        "For so long after its time a value is answered if the origin fails, or is later than the \
         request may take."),
    set("soft_timeout", Kind::Duration(Duration::ZERO..=MAX_TIMEOUT), "0s",
        "A reader for whom there is such a value waits no longer than this for the origin; the load \
         goes on. 0 waits as long as the request may take."),
    set("early_refresh", Kind::Decimal(EARLINESS), "0",
        "Hot values are loaded anew a little before their time is over, so that nobody waits for them: \
         1 is usual, more is earlier, 0 is off."),
    unset("origin", Kind::Origin, "none, a miss is a miss",
        "Where missing values come from: `{ kind = \"static\", values = { Tom = \"630\" } }`, \
         `{ kind = \"http\", url = \"http://127.0.0.1:9000/users/{key}\" }`, \
         `{ kind = \"opendal\", scheme = \"fs\", path = \"{key}\", options = { root = \"/srv/users\" } }` or \
         `{ kind = \"sql\", url = \"sqlite:///srv/users.db\", query = \"SELECT value FROM users WHERE key = $1\" }`."),
];

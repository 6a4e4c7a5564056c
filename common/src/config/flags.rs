//! The command lines of both binaries.
//!
//! Flags have no defaults here and no types: a flag that is not given must not hide the layers
//! below it, and what a value may be is decided once for all layers. Which key a flag sets stands
//! in the table of keys.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::{Role, keys};

/// What a flag says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagValue {
    /// The flag's name, without the dashes.
    pub flag: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// Its value, if it was given.
    pub value: Option<String>,
}

/// A parsed command line.
pub trait Flags {
    /// Which binary's it is.
    fn role(&self) -> Role;

    /// The flags that both binaries have.
    fn common(&self) -> &CommonFlags;

    /// Every flag that sets a key, given or not.
    fn values(&self) -> Vec<FlagValue>;
}

/// Flags of both binaries.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Read settings from this TOML file (also: RINGWAY_CONFIG)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print every effective setting with where it came from, and exit
    #[arg(long)]
    pub check_config: bool,

    /// How processes find each other: etcd or static [default: etcd]
    #[arg(long, value_name = "BACKEND")]
    pub discovery: Option<String>,

    /// Members of the etcd cluster [default: localhost:2379]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub etcd_endpoints: Option<String>,

    /// User of an etcd with authentication; its password: RINGWAY_DISCOVERY__ETCD_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub etcd_username: Option<String>,

    /// PEM file with the authorities of an https etcd [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub etcd_ca_file: Option<String>,

    /// PEM file with the certificate to show to an https etcd
    #[arg(long, value_name = "FILE")]
    pub etcd_cert_file: Option<String>,

    /// PEM file with that certificate's private key
    #[arg(long, value_name = "FILE")]
    pub etcd_key_file: Option<String>,

    /// gRPC addresses of all nodes, for --discovery static
    #[arg(long, value_name = "HOST:PORT,…")]
    pub static_nodes: Option<String>,

    /// Name of the cluster [default: ringway]
    #[arg(long, value_name = "NAME")]
    pub service_name: Option<String>,

    /// Keep the last known ring in this directory, to start with when etcd can't be reached
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<String>,

    /// Virtual nodes of a node of weight 100; must be the cluster's [default: the cluster's]
    #[arg(long, value_name = "NUMBER")]
    pub virtual_nodes: Option<String>,

    /// Let listeners that other machines can reach start without authentication
    #[arg(long)]
    pub insecure: bool,

    /// What to log: a level, or target=level,… [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,

    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl CommonFlags {
    fn values(&self) -> Vec<FlagValue> {
        vec![
            flag("discovery", &self.discovery),
            flag("etcd-endpoints", &self.etcd_endpoints),
            flag("etcd-username", &self.etcd_username),
            flag("etcd-ca-file", &self.etcd_ca_file),
            flag("etcd-cert-file", &self.etcd_cert_file),
            flag("etcd-key-file", &self.etcd_key_file),
            flag("static-nodes", &self.static_nodes),
            flag("service-name", &self.service_name),
            flag("state-dir", &self.state_dir),
            flag("virtual-nodes", &self.virtual_nodes),
            flag("insecure", &self.insecure.then(|| "true".to_owned())),
            flag("log-level", &self.log_level),
            flag("log-format", &self.log_format),
        ]
    }
}

/// The Ringway gateway: answers HTTP and routes each key to the node that owns it.
///
/// Every setting can be given in the file or as a RINGWAY_… variable, the most used ones as flags, too.
/// Flags go before variables, those before the file; docs/configuration.md lists them all.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "apiserver", version)]
pub struct GatewayFlags {
    /// Flags that a node has too.
    #[command(flatten)]
    pub common: CommonFlags,

    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub api_host: Option<String>,

    /// HTTP port, 0 for any free one [default: 8080]
    #[arg(long, value_name = "PORT")]
    pub api_port: Option<String>,

    /// Worker threads, 0 for one per core and at most 8 [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub workers: Option<String>,
}

impl Flags for GatewayFlags {
    fn role(&self) -> Role {
        Role::Gateway
    }

    fn common(&self) -> &CommonFlags {
        &self.common
    }

    fn values(&self) -> Vec<FlagValue> {
        let mut values = self.common.values();
        values.extend([
            flag("api-host", &self.api_host),
            flag("api-port", &self.api_port),
            flag("workers", &self.workers),
        ]);
        values
    }
}

/// A Ringway cache node: keeps the entries of its share of the ring.
///
/// Every setting can be given in the file or as a RINGWAY_… variable, the most used ones as flags, too.
/// Flags go before variables, those before the file; docs/configuration.md lists them all.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "cachenode", version)]
pub struct NodeFlags {
    /// Flags that a gateway has too.
    #[command(flatten)]
    pub common: CommonFlags,

    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub node_host: Option<String>,

    /// gRPC port, 0 for any free one [default: 9090]
    #[arg(long, value_name = "PORT")]
    pub node_port: Option<String>,

    /// HTTP port, for metrics and probes [default: the gRPC port + 1000, or a free one]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<String>,

    /// Host under which others reach this node [default: the address it listens on]
    #[arg(long, value_name = "HOST")]
    pub advertise_host: Option<String>,

    /// Name in the ring, to be kept over restarts [default: the advertised host and port]
    #[arg(long, value_name = "ID")]
    pub node_id: Option<String>,

    /// Zone of this node; replicas go to other zones first
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,

    /// Share of the ring, 0 for none [default: 100]
    #[arg(long, value_name = "NUMBER")]
    pub weight: Option<String>,

    /// How long this node stays in the ring after it went silent [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub lease_ttl: Option<String>,

    /// Name of the demo group, served where no group is configured [default: scores]
    #[arg(long, value_name = "NAME")]
    pub group_name: Option<String>,

    /// Replace the cluster's definitions of this file's groups by those of the file
    #[arg(long)]
    pub apply_groups: bool,

    /// Capacity of the demo group [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub cache_size: Option<String>,

    /// Lifetime of the demo group's entries, 0 is forever [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<String>,
}

impl Flags for NodeFlags {
    fn role(&self) -> Role {
        Role::Node
    }

    fn common(&self) -> &CommonFlags {
        &self.common
    }

    fn values(&self) -> Vec<FlagValue> {
        let mut values = self.common.values();
        values.extend([
            flag("node-host", &self.node_host),
            flag("node-port", &self.node_port),
            flag("http-port", &self.http_port),
            flag("advertise-host", &self.advertise_host),
            flag("node-id", &self.node_id),
            flag("zone", &self.zone),
            flag("weight", &self.weight),
            flag("lease-ttl", &self.lease_ttl),
            flag("group-name", &self.group_name),
            flag("apply-groups", &self.apply_groups.then(|| "true".to_owned())),
            flag("cache-size", &self.cache_size),
            flag("ttl", &self.ttl),
        ]);
        values
    }
}

fn flag(flag: &'static str, value: &Option<String>) -> FlagValue {
    let key = keys::of_flag(flag).expect("the table of keys has every flag").path;
    FlagValue { flag, key, value: value.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory};

    use super::*;
    use crate::config::{
        keys::{Fallback, KEYS, Takes},
        kind::Kind,
    };

    /// Flags that set no key.
    const KEYLESS: [&str; 4] = ["help", "version", "config", "check-config"];

    fn flags_of(command: Command) -> BTreeSet<String> {
        let mut command = command;
        command.build();
        let longs = command.get_arguments().filter_map(|arg| arg.get_long());
        longs.filter(|long| !KEYLESS.contains(long)).map(str::to_owned).collect()
    }

    fn in_table(other: Takes) -> BTreeSet<String> {
        let flags = KEYS.iter().filter_map(|key| key.flag);
        flags.filter(|(_, takes)| *takes != other).map(|(flag, _)| flag.to_owned()).collect()
    }

    fn in_values(flags: &impl Flags) -> BTreeSet<String> {
        flags.values().into_iter().map(|value| value.flag.to_owned()).collect()
    }

    #[test]
    fn command_lines_and_the_table_have_the_same_flags() {
        assert_eq!(flags_of(GatewayFlags::command()), in_table(Takes::Node));
        assert_eq!(flags_of(NodeFlags::command()), in_table(Takes::Gateway));
        assert_eq!(in_values(&GatewayFlags::default()), in_table(Takes::Node));
        assert_eq!(in_values(&NodeFlags::default()), in_table(Takes::Gateway));
    }

    #[test]
    fn command_lines_are_sound_and_every_flag_is_explained() {
        for mut command in [GatewayFlags::command(), NodeFlags::command()] {
            command.clone().debug_assert();
            command.build();
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} has no help", arg.get_id());
            }
            assert!(command.render_version().contains(env!("CARGO_PKG_VERSION")));
        }
    }

    #[test]
    fn help_tells_the_defaults_of_the_table() {
        for mut command in [GatewayFlags::command(), NodeFlags::command()] {
            command.build();
            for key in KEYS.iter().filter(|key| !matches!(key.kind, Kind::Switch)) {
                let arg =
                    command.get_arguments().find(|arg| arg.get_long() == key.flag.map(|f| f.0));
                let (Some(arg), Fallback::Value(value)) = (arg, key.fallback) else { continue };
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let told = format!("[default: {value}]");
                assert!(value.is_empty() || help.ends_with(&told), "{}: {help}", key.path);
            }
        }
    }

    #[test]
    fn a_flag_reaches_its_key() {
        let flags = NodeFlags::parse_from(["cachenode", "--node-port", "7", "--insecure"]);
        let value = |name| flags.values().into_iter().find(|value| value.flag == name).unwrap();
        assert_eq!(value("node-port").key, "node.port");
        assert_eq!(value("node-port").value.as_deref(), Some("7"));
        assert_eq!(value("insecure").value.as_deref(), Some("true"));
        assert_eq!(value("ttl").value, None);
    }
}

//! The settings as the rest of the program sees them: real types, checked, complete.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::definition::GroupDefinition;
use crate::{
    discovery::EtcdAccess,
    key::GroupName,
    security::{Secret, SecuritySettings},
    telemetry::TelemetrySettings,
};

/// How far a node's default HTTP port is above its gRPC port.
const HTTP_PORT_DISTANCE: u16 = 1000;

/// Everything that can be configured, for both binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[discovery]`
    pub discovery: DiscoverySettings,
    /// `[ring]`
    pub ring: RingWishes,
    /// `[gateway]`
    pub gateway: GatewaySettings,
    /// `[node]`
    pub node: NodeSettings,
    /// `[groups.NAME]`
    pub groups: BTreeMap<GroupName, GroupDefinition>,
    /// `[security]`
    pub security: SecuritySettings,
    /// `[telemetry]`
    pub telemetry: TelemetrySettings,
}

/// How processes find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Which backend.
    pub backend: Backend,
    /// Members of the etcd cluster: `host:port`, with or without `http://` or `https://`.
    pub etcd_endpoints: Vec<String>,
    /// How etcd and this process know each other.
    pub etcd_access: EtcdAccess,
    /// The cluster's name.
    pub service_name: String,
    /// How long a silent node stays a member; whole seconds, at least 2.
    pub lease_ttl: Duration,
    /// The members of a static cluster, `host:port` of gRPC; not empty where that is the backend.
    pub nodes: Vec<String>,
    /// Where the last known ring is kept over restarts, if it is.
    pub state_dir: Option<PathBuf>,
}

/// The backends of discovery that can be configured. The one in memory can only be built by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Leases and watches in etcd.
    #[default]
    Etcd,
    /// A list of addresses.
    Static,
}

/// What this process says of the ring; cluster state has the last word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RingWishes {
    /// Virtual nodes of a node of weight 100, if configured.
    pub virtual_nodes: Option<u32>,
    /// The cluster's secret, if configured.
    pub seed: Option<Secret>,
}

/// The gateway's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Host to bind.
    pub host: String,
    /// Port to bind; 0 is any free one.
    pub port: u16,
    /// The gateway's name, if configured.
    pub id: Option<String>,
    /// Worker threads; 0 is one per core, at most 8.
    pub workers: usize,
    /// Longest time for a request with all its tries.
    pub request_timeout: Duration,
    /// Longest wait for a first answer before the next node is tried; at most the request's.
    pub try_timeout: Duration,
    /// How many more nodes are tried.
    pub max_retries: u32,
    /// Largest body for a group that is not configured, in bytes.
    pub max_value: u64,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most requests on keys under way at a time.
    pub max_in_flight: usize,
    /// Most bytes of bodies that are read or written at a time.
    pub max_body_bytes_in_flight: u64,
    /// Memory for values held under near leases, by all workers together, in bytes; 0 is none.
    pub near_capacity: u64,
}

/// A node's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Host to bind, for gRPC and HTTP.
    pub host: String,
    /// gRPC port to bind; 0 is any free one.
    pub port: u16,
    /// HTTP port, if configured; see [`NodeSettings::default_http_port`].
    pub http_port: Option<u16>,
    /// Host under which others reach the node, if configured.
    pub advertise_host: Option<String>,
    /// The node's name in the ring, if configured; a valid [`NodeId`](crate::discovery::NodeId).
    pub id: Option<String>,
    /// The node's zone; empty is none.
    pub zone: String,
    /// The node's share of the ring; 100 is normal.
    pub weight: u32,
    /// Worker threads; 0 is one per core, at most 8.
    pub workers: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// How long draining may take.
    pub drain_timeout: Duration,
    /// The demo group's name.
    pub group_name: GroupName,
    /// The demo group's capacity, in bytes.
    pub cache_size: u64,
    /// Lifetime of the demo group's entries; zero is forever.
    pub ttl: Duration,
    /// Whether this file's groups replace the cluster's definitions of them.
    pub apply_groups: bool,
}

impl GatewaySettings {
    /// What to bind, as `host:port`.
    pub fn listen(&self) -> String {
        host_port(&self.host, self.port)
    }
}

impl NodeSettings {
    /// What to bind for gRPC, as `host:port`.
    pub fn listen_grpc(&self) -> String {
        host_port(&self.host, self.port)
    }

    /// The host that others are told.
    pub fn advertised_host(&self) -> &str {
        self.advertise_host.as_deref().unwrap_or(&self.host)
    }

    /// The HTTP port to try first where none is configured; 0, any free one, where the gRPC port
    /// is not fixed either or leaves no room above it.
    pub fn default_http_port(&self) -> u16 {
        match self.port {
            0 => 0,
            port => port.checked_add(HTTP_PORT_DISTANCE).unwrap_or(0),
        }
    }
}

/// A host and a port as one text, with the brackets that an IPv6 address needs.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_hosts_get_brackets_once() {
        assert_eq!(host_port("::1", 80), "[::1]:80");
        assert_eq!(host_port("[::1]", 80), "[::1]:80");
        assert_eq!(host_port("localhost", 80), "localhost:80");
    }

    #[test]
    fn the_default_http_port_stays_a_port() {
        let with_port =
            |port| NodeSettings { port, ..Settings::default().node }.default_http_port();
        assert_eq!(with_port(9090), 10090);
        assert_eq!(with_port(0), 0);
        assert_eq!(with_port(65_000), 0);
    }
}

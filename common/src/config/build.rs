//! From single values to settings: the one place where raw becomes typed, and where values are
//! held against each other.

use std::path::PathBuf;

use super::{
    Role, etcd, groups,
    layers::Layers,
    problem::Problem,
    settings::{Backend, DiscoverySettings, GatewaySettings, NodeSettings, RingWishes, Settings},
    values::Values,
};
use crate::{
    key::GroupName,
    security::{self, SecuritySettings},
    telemetry::{LogFormat, TelemetrySettings},
};

/// What the table says of a key and what is asked here always agree.
const TABLE: &str = "the table gives the key this kind and a default";

/// Builds the settings. To be called only with values that were read without a problem.
pub(super) fn settings(
    values: &mut Values,
    layers: &Layers,
    role: Role,
    problems: &mut Vec<Problem>,
) -> Settings {
    let groups = groups::build(values, layers, problems);
    let settings = Settings {
        discovery: discovery(values, problems),
        ring: RingWishes {
            virtual_nodes: values.number("ring.virtual_nodes"),
            seed: values.secret("ring.seed"),
        },
        gateway: gateway(values),
        node: node(values),
        groups,
        security: SecuritySettings {
            allow_insecure: values.switch("security.allow_insecure").expect(TABLE),
        },
        telemetry: TelemetrySettings {
            log_level: values.text("telemetry.log_level").expect(TABLE),
            log_format: match values.text("telemetry.log_format").expect(TABLE).as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        },
    };
    check_everywhere(&settings, values, problems);
    check_own(&settings, values, role, problems);
    settings
}

fn discovery(values: &Values, problems: &mut Vec<Problem>) -> DiscoverySettings {
    let etcd_endpoints = values.list("discovery.etcd_endpoints").expect(TABLE);
    let backend = match values.text("discovery.backend").expect(TABLE).as_str() {
        "static" => Backend::Static,
        _ => Backend::Etcd,
    };
    DiscoverySettings {
        backend,
        etcd_access: etcd::access(values, &etcd_endpoints, backend, problems),
        etcd_endpoints,
        service_name: values.text("discovery.service_name").expect(TABLE),
        lease_ttl: values.span("discovery.lease_ttl").expect(TABLE),
        nodes: values.list("discovery.nodes").expect(TABLE),
        state_dir: values.text("discovery.state_dir").map(PathBuf::from),
    }
}

fn gateway(values: &Values) -> GatewaySettings {
    GatewaySettings {
        host: values.text("gateway.host").expect(TABLE),
        port: values.number("gateway.port").expect(TABLE),
        id: values.text("gateway.id"),
        workers: values.number("gateway.workers").expect(TABLE),
        request_timeout: values.span("gateway.request_timeout").expect(TABLE),
        try_timeout: values.span("gateway.try_timeout").expect(TABLE),
        max_retries: values.number("gateway.max_retries").expect(TABLE),
        max_value: values.size("gateway.max_value").expect(TABLE),
        max_connections: values.number("gateway.max_connections").expect(TABLE),
        max_in_flight: values.number("gateway.max_in_flight").expect(TABLE),
        max_body_bytes_in_flight: values.size("gateway.max_body_bytes_in_flight").expect(TABLE),
        near_capacity: values.size("gateway.near_capacity").expect(TABLE),
    }
}

fn node(values: &Values) -> NodeSettings {
    let group_name = values.text("node.group_name").expect(TABLE);
    NodeSettings {
        host: values.text("node.host").expect(TABLE),
        port: values.number("node.port").expect(TABLE),
        http_port: values.number("node.http_port"),
        advertise_host: values.text("node.advertise_host"),
        id: values.text("node.id"),
        zone: values.text("node.zone").expect(TABLE),
        weight: values.number("node.weight").expect(TABLE),
        workers: values.number("node.workers").expect(TABLE),
        max_connections: values.number("node.max_connections").expect(TABLE),
        drain_timeout: values.span("node.drain_timeout").expect(TABLE),
        group_name: GroupName::new(group_name).expect("the rule of the key has checked the name"),
        cache_size: values.size("node.cache_size").expect(TABLE),
        ttl: values.span("node.ttl").expect(TABLE),
        apply_groups: values.switch("node.apply_groups").expect(TABLE),
    }
}

/// What must hold whichever binary reads it.
fn check_everywhere(settings: &Settings, values: &Values, problems: &mut Vec<Problem>) {
    let discovery = &settings.discovery;
    if discovery.backend == Backend::Static && discovery.nodes.is_empty() {
        let message = "the backend \"static\" needs the list of nodes; set discovery.nodes, or \
                       --static-nodes HOST:PORT,…";
        problems.push(values.problem("discovery.nodes", message));
    }
    if discovery.backend == Backend::Etcd && discovery.etcd_endpoints.is_empty() {
        let message = "the backend \"etcd\" needs an endpoint, such as localhost:2379";
        problems.push(values.problem("discovery.etcd_endpoints", message));
    }
    if settings.gateway.try_timeout > settings.gateway.request_timeout {
        let message = format!(
            "a try can't take longer than its request, gateway.request_timeout = {} ({})",
            humantime::format_duration(settings.gateway.request_timeout),
            values.entry("gateway.request_timeout").origin,
        );
        problems.push(values.problem("gateway.try_timeout", message));
    }
    if settings.node.advertise_host.as_deref().is_some_and(security::is_wildcard) {
        let message = "nobody can dial a wildcard; give the address others reach this node at";
        problems.push(values.problem("node.advertise_host", message));
    }
}

/// What must hold in the process that opens the listeners. One file serves many hosts, and flags
/// of one process complete it; another binary can't judge it.
fn check_own(settings: &Settings, values: &Values, role: Role, problems: &mut Vec<Problem>) {
    let (key, name, host) = match role {
        Role::Gateway => ("gateway.host", "the gateway", &settings.gateway.host),
        Role::Node => ("node.host", "the node", &settings.node.host),
    };
    if let Err(open) = security::check_listener(name, host, &settings.security) {
        problems.push(values.problem(key, open.to_string()));
    }
    let untold = role == Role::Node && settings.node.advertise_host.is_none();
    if untold && security::is_wildcard(&settings.node.host) {
        let message = "a wildcard is nothing that others can dial; say where they reach this node \
                       with node.advertise_host (--advertise-host HOST)";
        problems.push(values.problem(key, message));
    }
}

/// What was configured and will not be used, or not as safely as it seems.
pub(super) fn warnings(settings: &Settings, values: &Values, role: Role) -> Vec<String> {
    let mut warnings = unused_groups(settings, values, role);
    warnings.extend(etcd::warning(&settings.discovery));
    warnings
}

fn unused_groups(settings: &Settings, values: &Values, role: Role) -> Vec<String> {
    if role != Role::Node || settings.groups.is_empty() {
        return Vec::new();
    }
    let demo = ["node.group_name", "node.cache_size", "node.ttl"];
    let given = demo.into_iter().filter(|key| !values.entry(key).origin.is_default());
    given
        .map(|key| {
            let origin = &values.entry(key).origin;
            format!(
                "{key} ({origin}) is not used: it shapes the demo group, and there are [groups]"
            )
        })
        .collect()
}

//! Where things stand in the cluster state, and how the ring settings are written there.

use serde::{Deserialize, Serialize};

use crate::{
    discovery::{NodeId, RingSettings},
    key::GroupName,
};

/// The layout of the ring settings' JSON, its field `v`.
const SETTINGS_VERSION: u32 = 1;
/// Most virtual nodes of a member of normal weight: every process would have to build them all.
pub const MAX_VIRTUAL_NODES: u32 = 10_000;
/// Longest name of a service, in bytes.
pub const MAX_SERVICE_BYTES: usize = 128;

/// The keys of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    prefix: String,
}

/// What a key is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Node(&'a str),
    /// A node's recent joins and leaves.
    Flaps(&'a str),
    /// Members that are kept though they are not registered.
    Carried,
    Ring,
    Generation,
    /// A group's record.
    Group(&'a str),
    /// Reserved, or of a later version.
    Other,
}

impl Layout {
    /// The keys of a service's cluster; says in plain words why it can't be a name.
    pub(crate) fn new(service: &str) -> Result<Self, String> {
        let allowed = |c: char| !c.is_control() && !c.is_whitespace() && c != '/';
        if service.is_empty() || service.len() > MAX_SERVICE_BYTES {
            return Err(format!("service name {service:?} must be 1 to {MAX_SERVICE_BYTES} bytes"));
        }
        match service.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(format!("service name {service:?} holds {c:?}, which is not allowed")),
            None => Ok(Self { prefix: format!("/{service}/") }),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn node(&self, id: &NodeId) -> String {
        format!("{}nodes/{id}", self.prefix)
    }

    pub(crate) fn flaps(&self, id: &NodeId) -> String {
        format!("{}flaps/{id}", self.prefix)
    }

    pub(crate) fn carried(&self) -> String {
        format!("{}carried", self.prefix)
    }

    pub(crate) fn ring(&self) -> String {
        format!("{}ring", self.prefix)
    }

    pub(crate) fn group(&self, name: &GroupName) -> String {
        format!("{}groups/{name}", self.prefix)
    }

    pub(crate) fn generation(&self) -> String {
        format!("{}generation", self.prefix)
    }

    pub(crate) fn place<'a>(&self, key: &'a str) -> Place<'a> {
        match key.strip_prefix(&self.prefix) {
            Some("ring") => Place::Ring,
            Some("generation") => Place::Generation,
            Some("carried") => Place::Carried,
            Some(rest) => match rest.split_once('/') {
                Some(("nodes", id)) => Place::Node(id),
                Some(("flaps", id)) => Place::Flaps(id),
                Some(("groups", name)) => Place::Group(name),
                _ => Place::Other,
            },
            None => Place::Other,
        }
    }
}

/// Ring settings as they stand in the JSON, not yet checked.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    virtual_nodes: u32,
    #[serde(default)]
    seed: String,
}

/// The settings as JSON.
pub(crate) fn write_settings(settings: &RingSettings) -> Vec<u8> {
    let RingSettings { virtual_nodes, seed } = settings.clone();
    serde_json::to_vec(&Written { v: SETTINGS_VERSION, virtual_nodes, seed })
        .expect("a struct of numbers and text is always JSON")
}

/// Reads settings; says in plain words why it can't.
pub(crate) fn read_settings(json: &[u8]) -> Result<RingSettings, String> {
    let written: Written = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Written { v, virtual_nodes, seed } = written;
    if v != SETTINGS_VERSION {
        return Err(format!("v is {v}, this program reads {SETTINGS_VERSION}"));
    }
    if !(1..=MAX_VIRTUAL_NODES).contains(&virtual_nodes) {
        return Err(format!("virtual_nodes is {virtual_nodes}, not 1 to {MAX_VIRTUAL_NODES}"));
    }
    Ok(RingSettings { virtual_nodes, seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let layout = Layout::new("ringway").unwrap();
        let id = NodeId::new("10.0.0.1:7000").unwrap();
        assert_eq!(layout.node(&id), "/ringway/nodes/10.0.0.1:7000");
        assert_eq!(layout.place(&layout.node(&id)), Place::Node("10.0.0.1:7000"));
        assert_eq!(layout.place(&layout.flaps(&id)), Place::Flaps("10.0.0.1:7000"));
        assert_eq!(layout.place("/ringway/nodes/a/b"), Place::Node("a/b"));
        assert_eq!(layout.place(&layout.carried()), Place::Carried);
        assert_eq!(layout.place(&layout.ring()), Place::Ring);
        assert_eq!(layout.place(&layout.generation()), Place::Generation);
        let name = GroupName::new("users").unwrap();
        assert_eq!(layout.place(&layout.group(&name)), Place::Group("users"));
        for other in ["/ringway/durable/n", "/other/ring", "/ringway/nodes"] {
            assert_eq!(layout.place(other), Place::Other, "{other}");
        }
    }

    #[test]
    fn a_service_is_one_path_segment() {
        for bad in ["", "a/b", "a b", "a\n", &"s".repeat(129)] {
            assert!(Layout::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_read_back_and_are_bounded() {
        let settings = RingSettings { virtual_nodes: 7, seed: "s".into() };
        assert_eq!(write_settings(&settings), br#"{"v":1,"virtual_nodes":7,"seed":"s"}"#);
        assert_eq!(read_settings(&write_settings(&settings)), Ok(settings));
        for bad in [
            "",
            "{}",
            r#"{"v":2,"virtual_nodes":7}"#,
            r#"{"v":1,"virtual_nodes":0}"#,
            r#"{"v":1,"virtual_nodes":10001}"#,
        ] {
            assert!(read_settings(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

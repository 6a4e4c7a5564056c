//! What a node says about itself in the cluster state, and how that is written down.
//!
//! A record comes from another process, perhaps of another version: unknown fields are ignored,
//! everything else is checked here once. Where records are kept is not known here.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The layout of a record's JSON, its field `v`.
pub const RECORD_VERSION: u32 = 1;
/// Largest record, in bytes of JSON.
pub const MAX_RECORD_BYTES: usize = 16 << 10;
/// Longest node id, in bytes.
pub const MAX_NODE_ID_BYTES: usize = 256;
/// The weight of an ordinary node.
pub const NORMAL_WEIGHT: u32 = 100;
/// Largest weight: a hundred ordinary nodes. It bounds what one record can cost everybody.
pub const MAX_WEIGHT: u32 = 10_000;

/// A node's name, stable across restarts; the ring hashes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// Why a node id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// No characters.
    #[error("the node id is empty")]
    Empty,
    /// Over [`MAX_NODE_ID_BYTES`].
    #[error("the node id is {0} bytes long, the most is {MAX_NODE_ID_BYTES}")]
    TooLong(usize),
    /// A slash (ids are part of registry keys) or a control character.
    #[error("the node id holds {0:?}; '/' and control characters are not allowed")]
    Character(char),
}

impl NodeId {
    /// Validates and keeps an id.
    ///
    /// # Errors
    /// [`NodeIdError`] when it is empty, too long or holds '/' or a control character.
    pub fn new(id: impl Into<String>) -> Result<Self, NodeIdError> {
        let id = id.into();
        if id.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if id.len() > MAX_NODE_ID_BYTES {
            return Err(NodeIdError::TooLong(id.len()));
        }
        match id.chars().find(|c| *c == '/' || c.is_control()) {
            Some(c) => Err(NodeIdError::Character(c)),
            None => Ok(Self(id)),
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(id: &str) -> Result<Self, NodeIdError> {
        Self::new(id)
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(id: String) -> Result<Self, NodeIdError> {
        Self::new(id)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a node takes part fully or is on its way out. It owns its keys in both states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Serving.
    #[default]
    Active,
    /// Handing its entries over before it leaves.
    Draining,
}

impl NodeState {
    /// The state's name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

/// One node, as registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct NodeRecord {
    /// Who it is.
    pub id: NodeId,
    /// This life of it; every start has another.
    pub instance: Uuid,
    /// Where its gRPC answers, `host:port`.
    pub grpc: String,
    /// Where its HTTP answers (metrics, probes), `host:port`; empty if it has none.
    pub http: String,
    /// Where it stands, for spreading replicas; empty if zones are not used.
    pub zone: String,
    /// Its share of the ring; [`NORMAL_WEIGHT`] is ordinary, 0 owns nothing.
    pub weight: u32,
    /// Whether it is on its way out.
    pub state: NodeState,
    /// The version of its program.
    pub version: String,
    /// When this life of it began, RFC 3339.
    pub started_at: String,
}

/// Why a record was refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Over [`MAX_RECORD_BYTES`].
    #[error("the record is {0} bytes long, the most is {MAX_RECORD_BYTES}")]
    TooLarge(usize),
    /// Not the JSON of a record.
    #[error("the record can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl NodeRecord {
    /// The record of an ordinary node of which no more is known: serving, of normal weight, in no
    /// zone, without HTTP.
    pub fn new(id: NodeId, instance: Uuid, grpc: impl Into<String>) -> Self {
        Self {
            id,
            instance,
            grpc: grpc.into(),
            http: String::new(),
            zone: String::new(),
            weight: NORMAL_WEIGHT,
            state: NodeState::Active,
            version: String::new(),
            started_at: String::new(),
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] when it is too large, not JSON, of another version, or holds a value that
    /// is not allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The record as JSON.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] when nobody would read it.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }
}

/// A record as it stands in the JSON, not yet checked.
#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    id: NodeId,
    instance: String,
    grpc: String,
    #[serde(default)]
    http: String,
    #[serde(default)]
    zone: String,
    #[serde(default = "normal_weight")]
    weight: u32,
    #[serde(default)]
    state: NodeState,
    #[serde(default)]
    version: String,
    #[serde(default)]
    started_at: String,
}

fn normal_weight() -> u32 {
    NORMAL_WEIGHT
}

/// What a well-formed record must not say.
#[derive(Debug, thiserror::Error)]
enum BadValue {
    #[error("v is {0}, this program reads {RECORD_VERSION}")]
    Version(u32),
    #[error("instance {0:?} is not a UUID")]
    Instance(String),
    #[error("{0} is {1:?}, it must be host:port")]
    Address(&'static str, String),
    #[error("weight is {0}, the most is {MAX_WEIGHT}")]
    Weight(u32),
}

impl TryFrom<Written> for NodeRecord {
    type Error = BadValue;

    fn try_from(written: Written) -> Result<Self, BadValue> {
        let Written { v, id, instance, grpc, http, zone, weight, state, version, started_at } =
            written;
        if v != RECORD_VERSION {
            return Err(BadValue::Version(v));
        }
        if weight > MAX_WEIGHT {
            return Err(BadValue::Weight(weight));
        }
        let Ok(instance) = Uuid::parse_str(&instance) else {
            return Err(BadValue::Instance(instance));
        };
        if !is_address(&grpc) {
            return Err(BadValue::Address("grpc", grpc));
        }
        if !http.is_empty() && !is_address(&http) {
            return Err(BadValue::Address("http", http));
        }
        Ok(Self { id, instance, grpc, http, zone, weight, state, version, started_at })
    }
}

impl From<NodeRecord> for Written {
    fn from(record: NodeRecord) -> Self {
        let NodeRecord { id, instance, grpc, http, zone, weight, state, version, started_at } =
            record;
        let instance = instance.to_string();
        let v = RECORD_VERSION;
        Self { v, id, instance, grpc, http, zone, weight, state, version, started_at }
    }
}

/// Whether a text looks like `host:port`; whether the host exists is found out by calling it.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> NodeRecord {
        NodeRecord {
            id: NodeId::new("10.0.0.1:7000").unwrap(),
            instance: Uuid::from_u128(7),
            grpc: "10.0.0.1:7000".into(),
            http: "10.0.0.1:8000".into(),
            zone: "a".into(),
            weight: 150,
            state: NodeState::Draining,
            version: "0.1.0".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
        }
    }

    #[test]
    fn a_record_reads_back() {
        let json = record().to_json().unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains(r#""v":1"#) && text.contains(r#""state":"draining""#), "{text}");
        assert_eq!(NodeRecord::parse(&json).unwrap(), record());
    }

    #[test]
    fn unknown_fields_are_ignored_and_most_have_defaults() {
        let read = NodeRecord::parse(
            br#"{"v":1,"id":"a","instance":"00000000-0000-0000-0000-000000000007",
                 "grpc":"[::1]:7000","colour":{"of":"the future"}}"#,
        )
        .unwrap();
        assert_eq!((read.weight, read.state), (NORMAL_WEIGHT, NodeState::Active));
        assert_eq!((read.http.as_str(), read.zone.as_str()), ("", ""));
    }

    #[test]
    fn bad_records_are_refused_by_name() {
        let good = String::from_utf8(record().to_json().unwrap()).unwrap();
        for (from, to, why) in [
            (r#""v":1"#, r#""v":2"#, "v is 2"),
            (r#""v":1,"#, "", "missing field `v`"),
            ("00000000-0000", "zzz", "is not a UUID"),
            (r#""grpc":"10.0.0.1:7000""#, r#""grpc":"nowhere""#, "grpc is \"nowhere\""),
            (r#""grpc":"10.0.0.1:7000""#, r#""grpc":"a:0""#, "grpc is \"a:0\""),
            ("10.0.0.1:8000", "http://a/:1", "http is"),
            (r#""weight":150"#, r#""weight":10001"#, "weight is 10001"),
            (r#""state":"draining""#, r#""state":"asleep""#, "unknown variant `asleep`"),
            (r#""id":"10.0.0.1:7000""#, r#""id":"a/b""#, "the node id holds '/'"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            let error = NodeRecord::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error} should say {why}");
        }
        assert!(matches!(NodeRecord::parse(b"\xff\0"), Err(RecordError::Malformed(_))));
    }

    #[test]
    fn records_are_bounded_both_ways() {
        let huge = NodeRecord { version: "v".repeat(MAX_RECORD_BYTES), ..record() };
        assert!(matches!(huge.to_json(), Err(RecordError::TooLarge(_))));
        let json = vec![b' '; MAX_RECORD_BYTES + 1];
        assert!(matches!(NodeRecord::parse(&json), Err(RecordError::TooLarge(_))));
    }

    #[test]
    fn node_ids_fit_into_registry_keys() {
        assert_eq!(NodeId::new("n 1"), "n 1".parse());
        assert_eq!(NodeId::new(""), Err(NodeIdError::Empty));
        assert_eq!(NodeId::new("n".repeat(257)), Err(NodeIdError::TooLong(257)));
        assert_eq!(NodeId::new("a/b"), Err(NodeIdError::Character('/')));
        assert_eq!(NodeId::new("a\0"), Err(NodeIdError::Character('\0')));
    }
}

//! Groups as cluster state: what stands under `groups/{name}`, and how it is written.
//!
//! A record outlives whoever wrote it. The id is made with the group and never changes; a group that
//! was deleted leaves a record that says so, and one of the same name that is made later is another
//! group with another id. How many writes there were is told by the revision of the key.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config::{GroupDefinition, Keys},
    key::GroupName,
};

/// The layout of a record's JSON, its field `v`.
const GROUP_RECORD_VERSION: u32 = 1;
/// Largest record, in bytes of JSON.
pub const MAX_GROUP_RECORD_BYTES: usize = 256 << 10;
/// Most records of groups, deleted ones included; further ones are not written, and not read.
pub const MAX_GROUP_RECORDS: usize = 1024;

/// The groups of a cluster by name. What did not change is shared between views.
pub type GroupRecords = BTreeMap<GroupName, Arc<GroupRecord>>;

/// A group in the cluster state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Which group it is, whatever becomes of its definition.
    pub id: Uuid,
    /// The revision that wrote the record; zero of one that was not written yet.
    pub revision: u64,
    /// `None`: it was deleted.
    pub definition: Option<GroupDefinition>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    definition: Option<Keys>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

impl GroupRecord {
    /// A group that was never there before.
    pub fn new(definition: GroupDefinition) -> Self {
        Self { id: Uuid::new_v4(), revision: 0, definition: Some(definition) }
    }

    /// The record as JSON. `Err`: it is too long, in words.
    ///
    /// # Errors
    /// In plain words, when nobody would read it.
    pub fn to_json(&self) -> Result<Vec<u8>, String> {
        let definition = self.definition.as_ref().map(|definition| definition.keys().clone());
        let deleted = definition.is_none();
        let written =
            Written { v: GROUP_RECORD_VERSION, id: self.id.to_string(), definition, deleted };
        let json = serde_json::to_vec(&written).map_err(|error| error.to_string())?;
        if json.len() > MAX_GROUP_RECORD_BYTES {
            return Err(format!(
                "the definition takes {} bytes in the cluster state, the most is \
                 {MAX_GROUP_RECORD_BYTES}",
                json.len()
            ));
        }
        Ok(json)
    }

    /// Reads a record that stands at `revision`.
    ///
    /// # Errors
    /// In plain words, why it can't be read.
    pub fn parse(name: &GroupName, revision: u64, json: &[u8]) -> Result<Self, String> {
        if json.len() > MAX_GROUP_RECORD_BYTES {
            return Err(format!("it is {} bytes long, over {MAX_GROUP_RECORD_BYTES}", json.len()));
        }
        let written: Written = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let Written { v, id, definition, deleted } = written;
        if v != GROUP_RECORD_VERSION {
            return Err(format!("v is {v}, this program reads {GROUP_RECORD_VERSION}"));
        }
        let id: Uuid = id.parse().map_err(|_| format!("its id is {id:?}, not a UUID"))?;
        if id.is_nil() {
            return Err("its id is nil".into());
        }
        let definition = match (definition, deleted) {
            (_, true) => None,
            (None, false) => return Err("it has no definition, and is not deleted".into()),
            (Some(keys), false) => {
                Some(GroupDefinition::read_known(name, &keys).map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { id, revision, definition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> GroupName {
        GroupName::new("users").unwrap()
    }

    #[test]
    fn records_read_back_deleted_or_not() {
        let record = GroupRecord { revision: 7, ..GroupRecord::new(GroupDefinition::default()) };
        let read = |record: &GroupRecord| {
            GroupRecord::parse(&name(), record.revision, &record.to_json().unwrap()).unwrap()
        };
        assert_eq!(read(&record), record);
        let deleted = GroupRecord { definition: None, ..record };
        assert_eq!(read(&deleted), deleted);
        assert!(!String::from_utf8(deleted.to_json().unwrap()).unwrap().contains("definition"));
    }

    #[test]
    fn what_is_no_record_is_refused_and_what_is_new_in_one_is_passed_over() {
        let id = Uuid::from_u128(5);
        let parse = |json: &str| GroupRecord::parse(&name(), 1, json.as_bytes());
        let new = format!(
            r#"{{"v":1,"id":"{id}","definition":{{"ttl":"5s","colour":1}},"by":"somebody"}}"#
        );
        assert_eq!(parse(&new).unwrap().definition.unwrap().ttl.as_secs(), 5);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"v":1,"id":"x","definition":{}}"#,
            &format!(r#"{{"v":2,"id":"{id}","definition":{{}}}}"#),
            &format!(r#"{{"v":1,"id":"{id}"}}"#),
            &format!(r#"{{"v":1,"id":"{}","definition":{{}}}}"#, Uuid::nil()),
            &format!(r#"{{"v":1,"id":"{id}","definition":{{"ttl":"soon"}}}}"#),
            &format!(r#"{{"v":1,"id":"{id}","definition":{{}}}}{}"#, " ".repeat(1 << 20)),
        ] {
            assert!(parse(bad).is_err(), "{bad:.80}");
        }
    }

    #[test]
    fn a_record_that_nobody_would_read_is_not_written() {
        let values = serde_json::json!({"kind": "static", "values": {"k": "v".repeat(1 << 20)}});
        let keys = Keys::from_iter([("origin".to_owned(), values)]);
        let definition = GroupDefinition::read(&name(), &keys, "test").unwrap();
        assert!(GroupRecord::new(definition).to_json().unwrap_err().contains("the most is"));
    }
}

//! How carried members are written in the cluster state.
//!
//! When most members vanished at once, the first process that notices writes those it knew under
//! one key, bound to a lease that nobody renews. So all processes have the same ring again,
//! whatever each of them saw before. Who decides that, and when, is not known here.

use serde::{Deserialize, Serialize};

use crate::discovery::NodeRecord;

/// The layout of the JSON, its field `v`.
const CARRIED_VERSION: u32 = 1;
/// Largest value that is read; etcd takes no larger ones with its own default settings.
pub(crate) const MAX_CARRIED_BYTES: usize = 2 << 20;

#[derive(Serialize)]
struct Writing<'a> {
    v: u32,
    members: &'a [NodeRecord],
}

#[derive(Deserialize)]
struct Reading {
    v: u32,
    members: Vec<serde_json::Value>,
}

/// The members as JSON.
pub(crate) fn write_carried(members: &[NodeRecord]) -> Vec<u8> {
    serde_json::to_vec(&Writing { v: CARRIED_VERSION, members })
        .expect("records are structs of numbers and text, which are always JSON")
}

/// Reads carried members: those that can be read, and why the others can't. An error, in plain
/// words, when nothing can.
pub(crate) fn read_carried(json: &[u8]) -> Result<(Vec<NodeRecord>, Vec<String>), String> {
    if json.len() > MAX_CARRIED_BYTES {
        return Err(format!("it is {} bytes long, the most is {MAX_CARRIED_BYTES}", json.len()));
    }
    let Reading { v, members } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if v != CARRIED_VERSION {
        return Err(format!("v is {v}, this program reads {CARRIED_VERSION}"));
    }
    let (mut read, mut skipped) = (Vec::new(), Vec::new());
    for member in members {
        let json = member.to_string();
        match NodeRecord::parse(json.as_bytes()) {
            Ok(record) => read.push(record),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    Ok((read, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::MAX_RECORD_BYTES;

    const NODE: &str =
        r#"{"v":1,"id":"a","instance":"00000000-0000-0000-0000-000000000007","grpc":"h:1"}"#;

    #[test]
    fn carried_members_read_back() {
        let members = vec![NodeRecord::parse(NODE.as_bytes()).unwrap()];
        let json = write_carried(&members);
        assert!(json.starts_with(br#"{"v":1,"members":[{"v":1,"id":"a""#));
        assert_eq!(read_carried(&json), Ok((members, vec![])));
    }

    #[test]
    fn a_bad_record_is_left_out_and_the_others_are_read() {
        let padding = " ".repeat(4) + &"x".repeat(MAX_RECORD_BYTES);
        let huge = NODE.replace(r#""a""#, &format!(r#""b","version":"{padding}""#));
        let json = format!(r#"{{"v":1,"members":[{NODE},{{"v":9}},7,{huge}],"more":0}}"#);
        let (read, skipped) = read_carried(json.as_bytes()).unwrap();
        assert_eq!((read.len(), skipped.len()), (1, 3));
        assert!(skipped[2].contains("bytes long"), "{skipped:?}");
    }

    #[test]
    fn what_is_not_carried_members_is_refused() {
        for bad in ["", "{}", "[]", r#"{"v":2,"members":[]}"#, r#"{"v":1,"members":{}}"#] {
            assert!(read_carried(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read_carried(&vec![b' '; MAX_CARRIED_BYTES + 1]).unwrap_err().contains("bytes"));
    }
}

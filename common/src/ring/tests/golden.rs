//! The ring against `testdata/ring_golden.json`, which `make_ring_golden.py` wrote with Python's
//! hashlib and no code of ours.

use serde_json::Value;

use super::*;

fn cases() -> Vec<Value> {
    let golden = include_str!("../../../testdata/ring_golden.json");
    let golden: Value = serde_json::from_str(golden).unwrap();
    let cases = golden["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= 7);
    cases
}

fn ring_of(case: &Value) -> Ring {
    let virtual_nodes = case["virtual_nodes"].as_u64().unwrap() as u32;
    let members = list(&case["members"])
        .iter()
        .map(|m| member(text(&m["id"]), m["weight"].as_u64().unwrap() as u32, text(&m["zone"])));
    Ring::build(&settings(virtual_nodes, text(&case["seed"])), members.collect())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(text(value), 16).unwrap()
}

fn assert_preference(ring: &Ring, position: u64, expected: &Value, what: &str) {
    let expected: Vec<&str> = list(expected).iter().map(text).collect();
    assert_eq!(ids(ring, ring.preference(position)), expected, "{what}");
    assert_eq!(ids(ring, ring.owner(position).into_iter()), expected[..expected.len().min(1)]);
}

#[test]
fn points_and_digests_are_those_of_hashlib() {
    for case in cases() {
        let (ring, name) = (ring_of(&case), text(&case["name"]));
        assert_eq!(ring.digest(), number(&case["digest"]), "{name}");
        assert_eq!(ring.circle.len() as u64, case["points"].as_u64().unwrap(), "{name}");
        for (point, expected) in ring.circle.points().iter().zip(list(&case["first_points"])) {
            assert_eq!(point.position(), number(&expected["position"]), "{name}");
            let owner = ring.members()[point.owner()].id.as_str();
            assert_eq!(owner, text(&expected["owner"]), "{name}");
        }
    }
}

#[test]
fn keys_fall_where_hashlib_says_and_owners_follow() {
    for case in cases() {
        let (ring, name) = (ring_of(&case), text(&case["name"]));
        for key in list(&case["keys"]) {
            let (group, id) = (text(&key["group"]), text(&key["key"]));
            let position = ring.position(group, id);
            assert_eq!(position, number(&key["position"]), "{name}: {group}/{id}");
            assert_preference(
                &ring,
                position,
                &key["preference"],
                &format!("{name}: {group}/{id}"),
            );
        }
        for edge in list(&case["edges"]) {
            let position = number(&edge["position"]);
            assert_preference(
                &ring,
                position,
                &edge["preference"],
                &format!("{name}: {position:x}"),
            );
        }
    }
}

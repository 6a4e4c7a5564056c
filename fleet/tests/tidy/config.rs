//! The configuration of the gates parses, and Cargo.lock obeys `deny.toml`.
//!
//! cargo-deny is not installed everywhere; its bans and sources are simple enough to be held here.
//! Licences are not in Cargo.lock: for those it takes cargo-deny itself.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{assert_none, read_toml};

#[test]
fn the_configuration_of_the_gates_parses() {
    let deny = read_toml("deny.toml");
    for section in ["bans", "licenses", "sources"] {
        assert!(deny.contains_key(section), "deny.toml: no [{section}]");
    }
    let clippy = read_toml("clippy.toml");
    for method in clippy["disallowed-methods"].as_array().unwrap() {
        let reason = method.get("reason").and_then(Value::as_str).unwrap_or_default();
        assert!(!reason.is_empty(), "clippy.toml: {method} has no reason");
    }
    read_toml("rustfmt.toml");
    read_toml(".cargo/config.toml");
}

#[test]
fn one_toolchain_is_named_everywhere() {
    let toolchain = read_toml("rust-toolchain.toml")["toolchain"].as_table().unwrap().clone();
    // Components and targets would make rustup download more, where there may be no network.
    assert_eq!(toolchain.keys().collect::<Vec<_>>(), ["channel"]);
    let channel = toolchain["channel"].as_str().unwrap();
    let manifest = read_toml("Cargo.toml");
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(channel.starts_with(version), "{channel} is not {version}");
}

#[test]
fn the_lock_file_obeys_deny_toml() {
    assert_none(complaints(&read_toml("deny.toml"), &read_toml("Cargo.lock")));
}

fn complaints(deny: &Table, lock: &Table) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let registries = texts(&deny["sources"]["allow-registry"]);
    let mut complaints = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let (name, version) = (text("name").unwrap(), text("version").unwrap());
        versions.entry(name).or_default().push(version);
        // Our own crates have no source.
        let Some(source) = text("source") else { continue };
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        if !registries.contains(&registry) {
            complaints.push(format!("Cargo.lock: {name} {version} comes from {source}"));
        }
    }
    for ban in deny["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        let one_is_fine = ban.get("deny-multiple-versions").is_some();
        if found.len() > usize::from(one_is_fine) {
            let tree = format!("see `cargo tree -i {name}`");
            complaints.push(format!("Cargo.lock: {name} {found:?} is denied; {tree}"));
        }
    }
    complaints
}

fn texts(array: &Value) -> Vec<&str> {
    array.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[test]
fn banned_doubled_and_foreign_crates_are_seen() {
    let deny = r#"
        [bans]
        deny = [{ crate = "openssl-sys" }, { crate = "http", deny-multiple-versions = true }]
        [sources]
        allow-registry = ["https://crates"]
    "#;
    let complaints = |packages: &[(&str, &str, &str)]| {
        let lock: String = packages
            .iter()
            .map(|(name, version, source)| {
                format!(
                    "[[package]]\nname = '{name}'\nversion = '{version}'\nsource = '{source}'\n"
                )
            })
            .collect();
        complaints(&deny.parse().unwrap(), &lock.parse().unwrap()).len()
    };
    let ours = "registry+https://crates";
    assert_eq!(complaints(&[("http", "1", ours), ("x", "1", ours), ("x", "2", ours)]), 0);
    assert_eq!(complaints(&[("http", "1", ours), ("http", "2", ours)]), 1);
    assert_eq!(complaints(&[("openssl-sys", "1", ours)]), 1);
    assert_eq!(complaints(&[("x", "1", "registry+https://mirror")]), 1);
    assert_eq!(complaints(&[("x", "1", "git+https://crates")]), 1);
}

//! The one-way rule: `proto ← common ← {cachenode, apiserver} ← fleet`, `proto, common ← client ←
//! fleet`. The two servers never see each other.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{assert_none, members, read_toml};

/// What each crate (by its directory) may depend on within the workspace.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("proto", &[]),
    ("common", &["proto"]),
    ("cachenode", &["proto", "common"]),
    ("apiserver", &["proto", "common"]),
    ("client", &["proto", "common"]),
    ("fleet", &["proto", "common", "cachenode", "apiserver", "client"]),
];

/// Dependencies of every kind, also those of tests and builds.
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn crates_depend_one_way() {
    let shared = read_toml("Cargo.toml")["workspace"]["dependencies"].as_table().unwrap().clone();
    let complaints = members().into_iter().flat_map(|member| {
        complaints(&member, &read_toml(&format!("{member}/Cargo.toml")), &shared)
    });
    assert_none(complaints.collect());
}

fn complaints(member: &str, manifest: &Table, shared: &Table) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member) else {
        return vec![format!("{member}: a new crate; give it a place in MAY_USE")];
    };
    let mut complaints = Vec::new();
    for used in used_crates(manifest, shared) {
        if !allowed.contains(&used.as_str()) {
            complaints.push(format!("{member}/Cargo.toml: may not depend on {used}"));
        }
    }
    complaints
}

/// The directories of the workspace's crates that a manifest depends on.
fn used_crates(manifest: &Table, shared: &Table) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut used = BTreeSet::new();
    for table in tables.chain([manifest]) {
        for section in SECTIONS {
            let dependencies = table.get(section).and_then(Value::as_table);
            for (name, dependency) in dependencies.into_iter().flatten() {
                let inherited = shared.get(name).filter(|_| dependency.get("workspace").is_some());
                used.extend(path_of(inherited.unwrap_or(dependency)));
            }
        }
    }
    used
}

/// The last part of a path dependency's path, which is the crate's directory.
fn path_of(dependency: &Value) -> Option<String> {
    let path = dependency.get("path")?.as_str()?;
    path.trim_end_matches('/').rsplit('/').next().map(str::to_owned)
}

#[test]
fn a_forbidden_edge_is_seen_in_every_form() {
    let shared = r#"
        apiserver = { path = "apiserver" }
        common = { package = "ringway-common", path = "common" }
        bytes = "1"
    "#;
    let complaints = |member: &str, manifest: &str| {
        complaints(member, &manifest.parse().unwrap(), &shared.parse().unwrap())
    };
    let fine = "[dependencies]\ncommon.workspace = true\nbytes.workspace = true\ntoml = '1'";
    assert_eq!(complaints("cachenode", fine), Vec::<String>::new());
    let expected = ["cachenode/Cargo.toml: may not depend on apiserver"];
    for manifest in [
        "[dependencies]\napiserver.workspace = true",
        "[dev-dependencies]\napiserver = { workspace = true, features = ['x'] }",
        "[build-dependencies]\nx = { package = 'apiserver', path = '../apiserver' }",
        "[target.'cfg(unix)'.dependencies]\napiserver = { path = '../apiserver/' }",
    ] {
        assert_eq!(complaints("cachenode", manifest), expected, "{manifest}");
    }
    assert_eq!(complaints("proto", fine).len(), 1);
    assert_eq!(complaints("newcomer", "").len(), 1);
}

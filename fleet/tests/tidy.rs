//! The rules of the source tree, held against the tree as it is.
//!
//! Which crate may depend on which, which file may name what, how large files and functions may
//! be, and that the configuration of the gates parses. Each rule is a function from text to
//! complaints, tested here on small made-up inputs, so that a rule that has stopped biting shows.
//! Formatting, documentation and lints are the business of rustfmt, rustdoc and clippy.

#![allow(clippy::unwrap_used)]

#[path = "tidy/config.rs"]
mod config;
#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The directory of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of the workspace, relative to its root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of the workspace as TOML.
fn read_toml(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The directories of the workspace's crates.
fn members() -> Vec<String> {
    let members = read_toml("Cargo.toml")["workspace"]["members"].as_array().unwrap().clone();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Every Rust file of the workspace: its path relative to the root, and its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for member in members() {
        collect(&member, &mut found);
    }
    assert!(found.len() > 10, "the tree has more files than {}", found.len());
    found
}

fn collect(dir: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}")) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{dir}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" {
                collect(&path, found);
            }
        } else if path.ends_with(".rs") {
            let text = read(&path);
            found.push((path, text));
        }
    }
}

/// Fails with all complaints at once.
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

//! Links, `make` targets and whatever else a document points to.

use std::{collections::BTreeSet, fs};

use crate::{assert_none, blocks, read, root};

/// Every document: its path relative to the root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for dir in [".", "docs", "docs/adr"] {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{dir}/{name}"));
            }
        }
    }
    found
}

/// The targets of a document's links, outside of fenced blocks.
fn links(document: &str) -> Vec<&str> {
    let fenced = document.split("```").step_by(2);
    let linked = fenced.flat_map(|text| text.split("](").skip(1));
    linked.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn has_anchor(document: &str, wanted: &str) -> bool {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|anchor| anchor == wanted)
}

fn complaint(document: &str, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let dir = document.rsplit_once('/').map_or("", |(dir, _)| dir);
    let path = if path.is_empty() { document.to_owned() } else { format!("{dir}/{path}") };
    if !root().join(&path).exists() {
        return Some(format!("{document} links to {target}, which is not there"));
    }
    (!anchor.is_empty() && !has_anchor(&read(&path), anchor))
        .then(|| format!("{document} links to {target}, which has no such heading"))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 5, "only {documents:?}");
    let mut complaints = Vec::new();
    for document in documents {
        let text = read(&document);
        complaints.extend(links(&text).into_iter().filter_map(|link| complaint(&document, link)));
    }
    assert_none(complaints);
}

/// Pieces of code: the lines of blocks, and what stands between backticks.
fn code(document: &str) -> Vec<&str> {
    let mut found: Vec<&str> = ["sh", "console"]
        .iter()
        .flat_map(|language| blocks(document, language))
        .flatten()
        .collect();
    let text = document.split("```").step_by(2);
    found.extend(text.flat_map(|text| text.split('`').skip(1).step_by(2)));
    found
}

/// The targets that a document tells people to make.
fn made(document: &str) -> BTreeSet<&str> {
    let commands = code(document).into_iter().filter_map(|line| line.strip_prefix("make "));
    commands.filter_map(|rest| rest.split_whitespace().next()).collect()
}

#[test]
fn every_make_target_exists() {
    let makefile = read("Makefile");
    let exists = |target: &str| {
        makefile
            .lines()
            .any(|line| line.strip_prefix(target).is_some_and(|rest| rest.starts_with(':')))
    };
    let readme = read("README.md");
    assert!(made(&readme).is_superset(&BTreeSet::from(["run", "test", "build"])));
    let mut complaints = Vec::new();
    for document in documents() {
        for target in made(&read(&document)).into_iter().filter(|target| !exists(target)) {
            complaints.push(format!("{document} says `make {target}`, the Makefile does not"));
        }
    }
    assert_none(complaints);
}

#[test]
fn links_and_targets_are_found() {
    let document = "[a](b.md#c) `make x`\n```sh\nmake y z  # [no](link)\n```\n[d](e) make it";
    assert_eq!(links(document), ["b.md#c", "e"]);
    assert_eq!(made(document), BTreeSet::from(["x", "y"]));
    assert_eq!(anchor(" What it promises, today"), "what-it-promises-today");
    assert!(has_anchor("# A\n\n## B c\n", "b-c") && !has_anchor("# A\n", "b"));
    assert!(complaint("./README.md", "docs/no-such.md").is_some());
    assert!(complaint("./README.md", "LICENSE").is_none());
}

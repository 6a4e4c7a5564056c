//! The documents, held against what there is: the README's curl lines are run as they stand, and
//! links, `make` targets, metrics and bounds must exist.
//!
//! In the README's `sh` blocks every curl command is followed by what it prints, one `# →` line
//! for each line of the output that matters, in that order; `…` stands for anything within a line.

#![allow(clippy::unwrap_used)]

#[path = "readme/bounds.rs"]
mod bounds;
#[path = "readme/links.rs"]
mod links;
#[path = "readme/metrics.rs"]
mod metrics;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fleet::{
    cluster::{self, Cluster},
    local::{LocalFleet, Plan},
};

/// What stands before a line of expected output.
const EXPECTED: &str = "# →";
/// The gateway's address in the README.
const ADDRESS: &str = "localhost:8080";

/// The directory of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of the workspace, relative to its root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with all complaints at once.
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A command of the README, and the lines it is said to print.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    expected: Vec<String>,
}

/// The lines of a document's fenced blocks of one language, block by block.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let (mut found, mut open): (Vec<Vec<&str>>, Option<bool>) = (Vec::new(), None);
    for line in document.lines() {
        match (open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(info == language);
                if info == language {
                    found.push(Vec::new());
                }
            }
            (Some(_), Some("")) => open = None,
            (Some(true), _) => found.last_mut().unwrap().push(line),
            _ => {}
        }
    }
    found
}

/// The curl commands of a document.
fn examples(document: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let is_curl = |block: &Vec<&str>| block.iter().any(|line| line.starts_with("curl "));
    for line in blocks(document, "sh").into_iter().filter(is_curl).flatten() {
        if let Some(expected) = line.strip_prefix(EXPECTED) {
            let example = found.last_mut().expect("a command before what it prints");
            example.expected.push(expected.trim().to_owned());
        } else if !line.is_empty() {
            found.push(Example { command: line.to_owned(), expected: Vec::new() });
        }
    }
    found
}

/// Whether a line is as the pattern says, in which `…` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(line) = line.strip_prefix(first) else { return false };
    rest.is_empty() || line.char_indices().any(|(at, _)| matches(rest, &line[at..]))
}

/// The first expected line that is not printed after the ones before it.
fn missing<'a>(expected: &'a [String], printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines().map(str::trim_end);
    expected.iter().find(|pattern| !lines.any(|line| matches(pattern, line))).map(String::as_str)
}

/// Runs a command and says what is wrong with its output.
fn complaint(example: &Example, address: &str, dir: &Path) -> Option<String> {
    let Example { command, expected } = example;
    if expected.is_empty() {
        return Some(format!("$ {command}\n  no {EXPECTED} line says what it prints"));
    }
    let command = command.replace(ADDRESS, address);
    let output = Command::new("sh").arg("-c").arg(&command).current_dir(dir).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let missing = missing(expected, &printed)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    Some(format!("$ {command}\n  not printed: {missing}\n  but: {printed}\n{errors}"))
}

/// Runs every curl line of the README against the gateway at that address.
async fn run_examples(address: String) {
    let curl = Command::new("curl").arg("--version").output();
    assert!(curl.is_ok(), "curl is missing: sudo apt-get install curl");
    let examples = examples(&read("README.md"));
    assert!(examples.len() > 10, "only {} commands found", examples.len());
    let complaints = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        examples.iter().filter_map(|example| complaint(example, &address, dir.path())).collect()
    });
    assert_none(complaints.await.unwrap());
}

#[tokio::test]
async fn the_curl_lines_of_the_readme_print_what_it_says() {
    let fleet = LocalFleet::start(Plan::default()).await.unwrap();
    run_examples(fleet.gateway().to_string()).await;
    fleet.stop().await;
}

#[tokio::test]
async fn they_print_the_same_on_real_processes_and_a_real_etcd() {
    let cluster = Cluster::start(cluster::Plan::default()).await.unwrap();
    cluster.wait_ready().await;
    run_examples(cluster.gateway(0).address().to_string()).await;
}

#[test]
fn commands_are_found_with_what_they_print() {
    let document = "```sh\nmake run\n```\ntext\n```sh\ncurl a\n# → 1\n# → 2…\n\ncurl b\n```\n";
    let example = |command: &str, expected: &[&str]| Example {
        command: command.to_owned(),
        expected: expected.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(examples(document), [example("curl a", &["1", "2…"]), example("curl b", &[])]);
}

#[test]
fn what_is_not_printed_is_noticed() {
    let expected = ["HTTP/1.1 200 OK".to_owned(), "a: …".to_owned(), "{…\"b\":1}".to_owned()];
    assert_eq!(
        missing(&expected, "HTTP/1.1 200 OK\r\nx: y\r\na: 5\r\n\r\n{\"c\":2,\"b\":1}"),
        None
    );
    assert_eq!(missing(&expected, "a: 5\nHTTP/1.1 200 OK"), Some("a: …"), "not in that order");
    assert_eq!(missing(&expected, "HTTP/1.1 404 Not Found"), Some("HTTP/1.1 200 OK"));
    assert!(!matches("630", "6300") && !matches("…0", "6300x") && matches("6…0…", "6300x"));
}

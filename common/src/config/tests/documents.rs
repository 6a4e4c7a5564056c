//! The documents say what the program does: the example file and the reference.

use super::*;
use crate::config::keys::{Fallback, GROUP_KEYS, KEYS};

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// The example with every setting that it shows commented switched on.
fn all_on(example: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    example.lines().map(|line| on(line) + "\n").collect()
}

fn holds(table: &toml::Table, path: &str) -> bool {
    let (section, key) = path.rsplit_once('.').unwrap();
    let section = section.split('.').try_fold(table, |table, step| table.get(step)?.as_table());
    section.is_some_and(|section| section.contains_key(key))
}

#[test]
fn the_example_is_the_default() {
    let loaded = from_file(&read("config.example.toml")).unwrap();
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn the_example_shows_every_key_and_sets_those_with_a_default() {
    let example = read("config.example.toml");
    let live: toml::Table = example.parse().unwrap();
    let all: toml::Table = all_on(&example).parse().unwrap();
    for key in KEYS {
        let has_default = matches!(key.fallback, Fallback::Value(_));
        assert_eq!(holds(&live, key.path), has_default, "{} live", key.path);
        assert!(holds(&all, key.path), "{} shown", key.path);
    }
    for key in GROUP_KEYS {
        assert!(holds(&all, &format!("groups.users.{}", key.path)), "{} shown", key.path);
    }
}

#[test]
fn the_examples_of_what_is_not_set_would_work() {
    let pem = etcd::Pem::new();
    // Files that the example can only name.
    let example = all_on(&read("config.example.toml"))
        .replace("[\"localhost:2379\"]", "[\"https://localhost:2379\"]")
        .replace("/etc/ringway/etcd-ca.pem", &pem.certificate)
        .replace("/etc/ringway/etcd-client.pem", &pem.certificate)
        .replace("/etc/ringway/etcd-client-key.pem", &pem.key);
    let settings = from_file(&example).unwrap().settings;
    assert!(settings.discovery.etcd_access.identity.is_some());
    let origin = settings.groups["users"].origin.clone();
    assert!(origin.is_some());
    assert_eq!(
        settings.groups["users"].settings,
        GroupSettings { origin, ..GroupSettings::default() }
    );
    assert!(settings.ring.seed.is_some() && settings.node.advertise_host.is_some());
}

/// `UPDATE_DOCS=1 cargo test -p ringway-common documents` writes the table anew.
#[test]
fn the_reference_in_the_documentation_is_the_table() {
    let (begin, end) = ("<!-- reference: begin -->\n", "<!-- reference: end -->");
    let doc = read("docs/configuration.md");
    let (before, rest) = doc.split_once(begin).expect("the mark where the table begins");
    let (table, after) = rest.split_once(end).expect("the mark where the table ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let doc = format!("{before}{begin}{}{end}{after}", reference());
        fs::write(repository().join("docs/configuration.md"), doc).unwrap();
        return;
    }
    assert_eq!(table, reference(), "write it anew with UPDATE_DOCS=1");
}

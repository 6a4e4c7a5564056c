//! Tests of configuration as a whole: layers, mistakes, warnings, the report and the documents.

use std::{fs, path::Path, time::Duration};

use clap::Parser;
use tempfile::TempDir;

use super::{
    flags::{GatewayFlags, NodeFlags},
    *,
};

mod documents;
mod etcd;
mod mistakes;

/// A gateway's flags; the file's path takes the place of `FILE`.
fn gateway(args: &[&str], file: &TestFile) -> GatewayFlags {
    GatewayFlags::try_parse_from(command("apiserver", args, file)).unwrap()
}

/// A node's flags, likewise.
fn node(args: &[&str], file: &TestFile) -> NodeFlags {
    NodeFlags::try_parse_from(command("cachenode", args, file)).unwrap()
}

fn command(name: &str, args: &[&str], file: &TestFile) -> Vec<String> {
    let args = args.iter().map(|arg| arg.replace("FILE", file.path().to_str().unwrap()));
    std::iter::once(name.to_owned()).chain(args).collect()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A configuration file that goes with the test.
struct TestFile(TempDir);

impl TestFile {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        fs::write(file.path(), text).unwrap();
        file
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("ringway.toml")
    }
}

/// Loads for a gateway from a file alone.
fn from_file(text: &str) -> Result<Loaded, ConfigError> {
    load(&gateway(&["--config", "FILE"], &TestFile::new(text)), [])
}

/// Loads for a gateway from variables alone.
fn from_environment(pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load(&GatewayFlags::default(), variables(pairs))
}

#[test]
fn the_uppermost_layer_wins() {
    let file = TestFile::new("[gateway]\nport = 3\n");
    let bare = TestFile::new("");
    let flag: &[&str] = &["--config", "FILE", "--api-port", "1"];
    let none: &[&str] = &["--config", "FILE"];
    let variable = variables(&[("RINGWAY_GATEWAY__PORT", "2")]);
    let port = |args, file, env| load(&gateway(args, file), env).unwrap().settings.gateway.port;
    assert_eq!(port(flag, &file, variable.clone()), 1);
    assert_eq!(port(none, &file, variable), 2);
    assert_eq!(port(none, &file, vec![]), 3);
    assert_eq!(port(none, &bare, vec![]), 8080);
}

#[test]
fn layers_complete_each_other_within_a_section() {
    let file = TestFile::new("[node]\nzone = \"a\"\nweight = 50\n[groups.users]\nidle = \"5m\"\n");
    let env = variables(&[
        ("RINGWAY_NODE__WEIGHT", "200"),
        ("RINGWAY_GROUPS__USERS__TTL", "10s"),
        ("RINGWAY_NODE__PORT", "7"),
    ]);
    let loaded = load(&node(&["--config", "FILE", "--node-port", "9"], &file), env).unwrap();
    let Settings { node, groups, .. } = loaded.settings;
    assert_eq!((node.zone.as_str(), node.weight, node.port), ("a", 200, 9));
    let users = &groups["users"];
    assert_eq!((users.ttl, users.idle), (Duration::from_secs(10), Duration::from_secs(300)));
    assert_eq!(users.capacity, 64 << 20);
}

#[test]
fn the_environment_may_name_the_file_and_a_flag_another() {
    let (one, two) = (TestFile::new("[node]\nweight = 1\n"), TestFile::new("[node]\nweight = 2\n"));
    let env = variables(&[("RINGWAY_CONFIG", one.path().to_str().unwrap())]);
    let weight = |flags: &GatewayFlags| load(flags, env.clone()).unwrap().settings.node.weight;
    assert_eq!(weight(&GatewayFlags::default()), 1);
    assert_eq!(weight(&gateway(&["--config", "FILE"], &two)), 2);
}

#[test]
fn lists_take_both_forms_in_every_layer() {
    let wanted = ["a:1", "b:2"];
    let array = from_file("[discovery]\netcd_endpoints = [\"a:1\", \"b:2\"]\n").unwrap();
    let text = from_file("[discovery]\netcd_endpoints = \"a:1,b:2\"\n").unwrap();
    let variable = from_environment(&[("RINGWAY_DISCOVERY__ETCD_ENDPOINTS", "a:1, b:2")]).unwrap();
    let flags = GatewayFlags::parse_from(["apiserver", "--etcd-endpoints", "a:1,b:2"]);
    for loaded in [array, text, variable, load(&flags, []).unwrap()] {
        assert_eq!(loaded.settings.discovery.etcd_endpoints, wanted);
    }
}

#[test]
fn a_seed_of_digits_keeps_its_zeros() {
    let variable = from_environment(&[("RINGWAY_RING__SEED", "0123")]).unwrap();
    let file = from_file("[ring]\nseed = \"0123\"\n").unwrap();
    for loaded in [variable, file] {
        assert_eq!(loaded.settings.ring.seed.unwrap().expose(), "0123");
    }
    assert_eq!(from_environment(&[]).unwrap().settings.ring, RingWishes::default());
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let loaded =
        from_environment(&[("RINGWAY_GATEWAY__PORT", ""), ("RINGWAY_CONFIG", "")]).unwrap();
    assert_eq!(loaded.settings.gateway.port, 8080);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn unknown_variables_are_warned_of_and_foreign_ones_ignored() {
    let loaded = from_environment(&[
        ("RINGWAY_GATEWAY_PORT", "1"),
        ("RINGWAY_GROUPS__USERS__ORIGIN", "static"),
        ("PATH", "/bin"),
    ]);
    let warnings = loaded.unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("RINGWAY_GATEWAY_PORT; did you mean RINGWAY_GATEWAY__PORT?"));
    assert!(warnings[1].contains("RINGWAY_GROUPS__USERS__ORIGIN"));
}

#[test]
fn variables_find_groups_whatever_the_case_of_their_names() {
    let file = TestFile::new("[groups.Users]\n[groups.a__b]\n");
    let env = variables(&[
        ("RINGWAY_GROUPS__USERS__TTL", "7s"),
        ("RINGWAY_GROUPS__A__B__TTL", "8s"),
        ("RINGWAY_GROUPS__NEW__TTL", "9s"),
    ]);
    let loaded = load(&gateway(&["--config", "FILE"], &file), env).unwrap();
    let ttl: Vec<_> =
        loaded.settings.groups.iter().map(|(name, g)| (name.as_str(), g.ttl.as_secs())).collect();
    assert_eq!(ttl, [("Users", 7), ("a__b", 8), ("new", 9)]);
}

#[test]
fn groups_are_complete() {
    let text = r#"
        [groups."users.v2"]
        capacity = "1GiB"
        eviction = "tinylfu"
        max_value = 4096
        partition = "strict"
        origin = { kind = "static", values = { Tom = "630", Jack = 589 } }
        [groups.small]
        capacity = "64KiB"
    "#;
    let groups = from_file(text).unwrap().settings.groups;
    let users = &groups["users.v2"];
    assert_eq!((users.capacity, users.max_value), (1 << 30, 4096));
    assert_eq!((users.eviction, users.ttl), (Eviction::TinyLfu, Duration::from_secs(3600)));
    assert_eq!(users.partition, Partition::Strict);
    assert_eq!(groups["small"].partition, Partition::Available);
    let Some(OriginSettings::Static { values }) = &users.origin else { panic!("{users:?}") };
    let values: Vec<_> = values.iter().map(|(key, v)| (key.as_str(), v.as_str())).collect();
    assert_eq!(values, [("Jack", "589"), ("Tom", "630")]);
    assert_eq!(groups["small"].max_value, 64 << 10, "the default gives way to the capacity");
    assert_eq!(groups["small"].origin, None);
}

#[test]
fn an_unused_demo_group_is_warned_of_where_it_would_be_served() {
    let file = TestFile::new("[groups.users]\n[node]\nttl = \"1s\"\n");
    let warnings = load(&node(&["--config", "FILE"], &file), []).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("node.ttl (file "), "{warnings:?}");
    assert!(load(&gateway(&["--config", "FILE"], &file), []).unwrap().warnings.is_empty());
}

#[test]
fn every_binary_judges_its_own_listener() {
    let open = TestFile::new("[gateway]\nhost = \"10.0.0.1\"\n[node]\nhost = \"0.0.0.0\"\n");
    let file: &[&str] = &["--config", "FILE"];
    let error = load(&gateway(file, &open), []).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert!(error.to_string().contains("gateway.host"), "{error}");

    let error = load(&node(file, &open), []).unwrap_err().to_string();
    assert!(error.contains("--insecure") && error.contains("--advertise-host"), "{error}");
    let told: &[&str] = &["--config", "FILE", "--insecure", "--advertise-host", "10.0.0.2"];
    let settings = load(&node(told, &open), []).unwrap().settings;
    assert_eq!(settings.node.advertised_host(), "10.0.0.2");
    assert!(settings.security.allow_insecure);
}

#[test]
fn the_report_names_the_origin_of_every_value() {
    let file = TestFile::new(
        "[gateway]\nport = 3\n[groups.users]\nttl = \"90s\"\n\
         origin = { kind = \"static\", values = { Tom = \"630\" } }\n",
    );
    let env = variables(&[
        ("RINGWAY_RING__SEED", "sesame"),
        ("RINGWAY_GATEWAY__MAX_VALUE", "2097152"),
        ("RINGWAY_NOTHING", "1"),
    ]);
    let flags = gateway(&["--config", "FILE", "--log-level", "debug"], &file);
    let loaded = load(&flags, env).unwrap();
    let report = loaded.report();
    let from = format!("file {}", file.path().display());
    let lines: Vec<_> =
        report.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "[gateway]",
        "host = \"127.0.0.1\" # default",
        &format!("port = 3 # {from}"),
        "max_value = \"2MiB\" # environment RINGWAY_GATEWAY__MAX_VALUE",
        "seed = \"********\" # environment RINGWAY_RING__SEED",
        "#id is not set: derived from host name and port # default",
        "log_level = \"debug\" # flag --log-level",
        "[groups.users]",
        &format!("ttl = \"1m 30s\" # {from}"),
        &format!("origin = {{ kind = \"static\", values = {{ Tom = \"630\" }} }} # {from}"),
        "# warning: nothing reads RINGWAY_NOTHING; it is ignored",
    ] {
        assert!(lines.iter().any(|l| l == line), "no line {line:?} in\n{report}");
    }
    assert!(!report.contains("sesame") && !format!("{loaded:?}").contains("sesame"), "{report}");
}

#[test]
fn the_report_is_a_file_that_gives_the_same_settings() {
    let text = "[node]\nzone = \"a\"\n[groups.\"a.b\"]\ncapacity = 1000\n";
    let loaded = from_file(text).unwrap();
    let again = from_file(loaded.report()).unwrap();
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn being_told_nothing_is_the_default() {
    assert_eq!(from_environment(&[]).unwrap().settings, Settings::default());
    let group = from_file("[groups.g]\n").unwrap().settings.groups["g"].clone();
    assert_eq!(group.settings, GroupSettings::default());
    assert_eq!(group.max_value, 1 << 20);
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

//! Mistakes: each names the key, the value and where it was made, and all are told at once.

use super::*;

/// The only line of a configuration's complaint.
fn only(error: &ConfigError) -> String {
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].to_string()
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_layer() {
    let file = TestFile::new("[gateway]\nport = 70000\n");
    let flags = |args: &[&str]| gateway(args, &file);
    let in_file = only(&load(&flags(&["--config", "FILE"]), []).unwrap_err());
    let in_env = only(&from_environment(&[("RINGWAY_GATEWAY__PORT", "http")]).unwrap_err());
    let in_flag = only(&load(&flags(&["--api-port", "8o8o"]), []).unwrap_err());
    let why = "this is not a whole number from 0 to 65535";
    let path = file.path();
    assert_eq!(in_file, format!("gateway.port = 70000 (file {}): {why}", path.display()));
    assert_eq!(
        in_env,
        format!("gateway.port = \"http\" (environment RINGWAY_GATEWAY__PORT): {why}")
    );
    assert_eq!(in_flag, format!("gateway.port = \"8o8o\" (flag --api-port): {why}"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let file = TestFile::new(
        "[gateway]\nprot = 1\nmax_value = \"65MiB\"\n[node]\nhost = \"a b\"\n[groups.g]\nttl = 5\n",
    );
    let flags = gateway(&["--config", "FILE", "--workers", "many"], &file);
    let error = load(&flags, variables(&[("RINGWAY_TELEMETRY__LOG_LEVEL", "inf")])).unwrap_err();
    let keys: Vec<_> = error.problems().iter().map(|problem| problem.key.as_str()).collect();
    let wanted = [
        "gateway.prot",
        "gateway.workers",
        "gateway.max_value",
        "node.host",
        "telemetry.log_level",
        "groups.g.ttl",
    ];
    assert_eq!(keys, wanted, "{error}");
    assert!(error.to_string().starts_with("the configuration has 6 mistakes:\n  gateway.prot"));
}

#[test]
fn unknown_names_in_a_file_are_mistakes_with_a_hint() {
    for (text, key, hint) in [
        ("[gateway]\nprot = 1\n", "gateway.prot", "did you mean gateway.port?"),
        ("[gateway]\ncache_size = 1\n", "gateway.cache_size", "did you mean node.cache_size?"),
        ("[gateway]\ncolour = 1\n", "gateway.colour", "[gateway] has host, port"),
        ("[gatway]\nport = 1\n", "gatway", "did you mean [gateway]?"),
        ("[colours]\n", "colours", "the sections are"),
        ("port = 1\n", "port", "did you mean gateway.port?"),
        ("gateway = 1\n", "gateway", "write [gateway]"),
        ("[groups.g]\ncapcity = 1\n", "groups.g.capcity", "did you mean capacity?"),
        ("[groups.g]\nreplicas = 2\n", "groups.g.replicas", "a group has capacity, ttl"),
        ("[groups]\ng = 1\n", "groups.g", "write [groups.g]"),
    ] {
        let error = from_file(text).unwrap_err();
        let problem = only(&error);
        assert_eq!(error.problems()[0].key, key);
        assert!(problem.contains("(file ") && problem.contains(hint), "{problem}");
    }
}

#[test]
fn what_is_not_built_in_is_refused_by_name() {
    let memory = only(&from_environment(&[("RINGWAY_DISCOVERY__BACKEND", "memory")]).unwrap_err());
    assert!(
        memory.contains("\"memory\" is only for fleets that run inside one process"),
        "{memory}"
    );
    let text = "[groups.g]\norigin = { kind = \"magic\", url = \"x\" }\n";
    let problem = only(&from_file(text).unwrap_err());
    let wanted = "origin kind \"magic\" is not built into this version; use \"static\", \"http\", \
                  \"opendal\" or \"sql\"";
    assert!(
        problem.starts_with("groups.g.origin.kind = ") && problem.contains(wanted),
        "{problem}"
    );
}

#[test]
fn origins_are_checked_to_the_leaf() {
    for (origin, key) in [
        ("\"static\"", "groups.g.origin"),
        ("{ values = {} }", "groups.g.origin.kind"),
        ("{ kind = \"static\" }", "groups.g.origin.values"),
        ("{ kind = \"static\", values = {}, url = \"x\" }", "groups.g.origin.url"),
        ("{ kind = \"static\", values = { a = 1.5 } }", "groups.g.origin.values.a"),
        ("{ kind = \"static\", values = { \"\" = \"1\" } }", "groups.g.origin.values.\"\""),
        ("{ kind = \"http\" }", "groups.g.origin.url"),
        ("{ kind = \"http\", url = 5 }", "groups.g.origin.url"),
        ("{ kind = \"http\", url = \"http://h/{key}\", values = {} }", "groups.g.origin.values"),
        (
            "{ kind = \"http\", url = \"http://h/{key}\", timeout = \"0s\" }",
            "groups.g.origin.timeout",
        ),
        (
            "{ kind = \"http\", url = \"http://h/{key}\", max_loads = 0 }",
            "groups.g.origin.max_loads",
        ),
        (
            "{ kind = \"http\", url = \"http://h/{key}\", headers = \"x\" }",
            "groups.g.origin.headers",
        ),
        (
            "{ kind = \"http\", url = \"http://h/{key}\", headers = { \"@\" = \"c\" } }",
            "groups.g.origin.headers.\"@\"",
        ),
        (
            "{ kind = \"http\", url = \"http://h/{key}\", headers = { a = \"b\\u0007\" } }",
            "groups.g.origin.headers.a",
        ),
    ] {
        let error = from_file(&format!("[groups.g]\norigin = {origin}\n")).unwrap_err();
        assert_eq!(only(&error).split([' ', '(']).next(), Some(key), "{error}");
    }
}

#[test]
fn an_http_origins_scheme_and_host_are_fixed() {
    for (url, hint) in [
        ("http://h/users", "has no {key}"),
        ("ftp://h/{key}", "begins with http:// or https://"),
        ("/users/{key}", "begins with http:// or https://"),
        ("http://{key}/users", "{key} is in the host"),
        ("http://h{key}/users/{key}", "{key} is in the host"),
        ("http://h:{key}", "{key} is in the host"),
        ("http://u:p@h/{key}", "has a user"),
        ("http://h/{id}/{key}", "only {key} may be in braces"),
        ("http://169.254.169.254/{key}", "link-local"),
        ("http://[fe80::1]/{key}", "link-local"),
        ("http://[::ffff:169.254.1.1]/{key}", "link-local"),
        ("http://100.100.100.200/{key}", "link-local"),
        ("http://[fd00:ec2::254]/{key}", "link-local"),
    ] {
        let text = format!("[groups.g]\norigin = {{ kind = \"http\", url = \"{url}\" }}\n");
        let problem = only(&from_file(&text).unwrap_err());
        assert!(problem.starts_with("groups.g.origin.url = "), "{problem}");
        assert!(problem.contains(hint), "{problem}");
    }
    let allowed = "[groups.g]\norigin = { kind = \"http\", url = \"http://169.254.169.254/{key}\", \
                   allow_link_local = true }\n";
    from_file(allowed).unwrap();
}

#[test]
fn an_opendal_origin_has_a_service_a_path_and_its_options() {
    for (origin, key, hint) in [
        (r#"path = "{key}""#, "scheme", "has a scheme; the services are \"fs\""),
        (r#"scheme = "ftp", path = "{key}""#, "scheme", "\"memory\", \"redis\", \"s3\""),
        (r#"scheme = "memory""#, "path", "has a path"),
        (r#"scheme = "memory", path = "users""#, "path", "has no {key}"),
        (r#"scheme = "memory", path = "{key}/{id}""#, "path", "only {key} may be in braces"),
        (r#"scheme = "memory", path = "/{key}""#, "path", "relative to the root"),
        (r#"scheme = "memory", path = "../{key}""#, "path", "relative to the root"),
        (r#"scheme = "memory", path = "{key}/""#, "path", "relative to the root"),
        (r#"scheme = "memory", path = "{key}", url = 1"#, "url", "there is no such key"),
        (r#"scheme = "memory", path = "{key}", options = 1"#, "options", "options are a table"),
        (r#"scheme = "memory", path = "{key}", timeout = "0s""#, "timeout", "give 1ms"),
        (r#"scheme = "memory", path = "{key}", max_loads = 0"#, "max_loads", "from 1 to"),
        (r#"scheme = "fs", path = "{key}""#, "options.root", "needs it"),
        (
            r#"scheme = "fs", path = "{key}", options = { root = "users" }"#,
            "options.root",
            "from the top",
        ),
        (
            r#"scheme = "fs", path = "{key}", options = { root = "/x", toor = "/" }"#,
            "options.toor",
            "there is no such option; \"fs\" has root",
        ),
        (r#"scheme = "http", path = "{key}""#, "options.endpoint", "needs it"),
        (
            r#"scheme = "http", path = "{key}", options = { endpoint = "ftp://h" }"#,
            "options.endpoint",
            "begins with http:// or https://",
        ),
        (
            r#"scheme = "http", path = "{key}", options = { endpoint = "http://169.254.169.254" }"#,
            "options.endpoint",
            "link-local",
        ),
        (
            r#"scheme = "redis", path = "{key}", options = { endpoint = "redis://u:sesame@h" }"#,
            "options.endpoint",
            "give username and password as options",
        ),
        (r#"scheme = "s3", path = "{key}""#, "options.bucket", "needs it"),
    ] {
        let text = format!("[groups.g]\norigin = {{ kind = \"opendal\", {origin} }}\n");
        let problem = only(&from_file(&text).unwrap_err());
        let wanted = format!("groups.g.origin.{key}");
        assert_eq!(problem.split([' ', '(']).next(), Some(wanted.as_str()), "{problem}");
        assert!(problem.contains(hint) && !problem.contains("sesame"), "{problem}");
    }
}

#[test]
fn an_sql_origin_has_a_database_and_one_query() {
    const QUERY: &str = "SELECT v FROM t WHERE k = $1";
    for (url, query, key, hint) in [
        ("mysql://h/db", QUERY, "url", "begins with postgres:// or sqlite://"),
        ("postgres://u:sesame@h/db?password=x", QUERY, "url", "password can't be given"),
        ("postgres://u:sesame@h/db?options=-cx", QUERY, "url", "options can't be given"),
        ("sqlite://users.db", QUERY, "url", "three slashes"),
        ("sqlite::memory:", QUERY, "url", "begins with postgres:// or sqlite://"),
        ("sqlite:///srv/users.db?mode=rwc", QUERY, "url", "for reading only"),
        ("postgres://h/db", "SELECT v FROM t", "query", "has no $1"),
        ("postgres://h/db", "SELECT v FROM t WHERE k = $2", "query", "parameter $2"),
        ("sqlite:///srv/users.db", "SELECT v FROM t WHERE k = ?", "query", "parameter with '?'"),
        ("postgres://h/db", "SELECT $1; DROP TABLE t", "query", "several statements"),
        ("postgres://h/db", "DELETE FROM t WHERE k = $1", "query", "begin with SELECT"),
    ] {
        let origin = format!("{{ kind = \"sql\", url = \"{url}\", query = \"{query}\" }}");
        let problem = only(&from_file(&format!("[groups.g]\norigin = {origin}\n")).unwrap_err());
        assert!(problem.starts_with(&format!("groups.g.origin.{key} = ")), "{problem}");
        assert!(problem.contains(hint) && !problem.contains("sesame"), "{problem}");
    }
    for (origin, key) in [
        (r#"query = "SELECT $1""#, "url"),
        (r#"url = "postgres://h/db""#, "query"),
        (r#"url = "postgres://h/db", query = "SELECT $1", pool = 1"#, "pool"),
        (r#"url = "postgres://h/db", query = "SELECT $1", max_loads = 257"#, "max_loads"),
    ] {
        let text = format!("[groups.g]\norigin = {{ kind = \"sql\", {origin} }}\n");
        let problem = only(&from_file(&text).unwrap_err());
        let wanted = format!("groups.g.origin.{key}");
        assert_eq!(problem.split([' ', '(']).next(), Some(wanted.as_str()), "{problem}");
    }
}

#[test]
fn the_secrets_of_an_origin_are_in_no_output() {
    for origin in [
        r#"{ kind = "http", url = "http://h/{key}", headers = { A = "sesame" } }"#,
        r#"{ kind = "opendal", scheme = "redis", path = "{key}", options = { password = "sesame" } }"#,
        r#"{ kind = "sql", url = "postgres://u:sesame@h/db", query = "SELECT $1" }"#,
    ] {
        let loaded = from_file(&format!("[groups.g]\norigin = {origin}\n")).unwrap();
        let report = loaded.report();
        assert!(report.contains("********") && !report.contains("sesame"), "{report}");
        let loaded =
            from_file(&format!("[groups.g]\norigin = {}\n", origin.replace("sesame", "${NAME}")));
        let loaded = loaded.unwrap();
        assert!(loaded.report().contains("${NAME}"), "{}", loaded.report());
    }
}

#[test]
fn values_that_contradict_each_other_are_mistakes() {
    let static_backend = from_environment(&[("RINGWAY_DISCOVERY__BACKEND", "static")]).unwrap_err();
    assert!(
        only(&static_backend).starts_with("discovery.nodes = [] (default): "),
        "{static_backend}"
    );
    let none = from_file("[discovery]\netcd_endpoints = []\n").unwrap_err();
    assert!(only(&none).starts_with("discovery.etcd_endpoints = []"), "{none}");

    let tries = from_environment(&[("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "100ms")]).unwrap_err();
    let problem = only(&tries);
    assert!(problem.starts_with("gateway.try_timeout = \"250ms\" (default)"), "{problem}");
    assert!(problem.contains("environment RINGWAY_GATEWAY__REQUEST_TIMEOUT"), "{problem}");

    let large = from_file("[groups.g]\ncapacity = \"1MiB\"\nmax_value = \"2MiB\"\n").unwrap_err();
    assert!(only(&large).contains("raise groups.g.capacity"), "{large}");
    let nowhere = from_file("[node]\nadvertise_host = \"::\"\n").unwrap_err();
    assert!(only(&nowhere).starts_with("node.advertise_host = \"::\""), "{nowhere}");
}

#[test]
fn limits_hold() {
    for (variable, value) in [
        ("RINGWAY_DISCOVERY__LEASE_TTL", "1s"),
        ("RINGWAY_DISCOVERY__LEASE_TTL", "2500ms"),
        ("RINGWAY_DISCOVERY__SERVICE_NAME", "a/b"),
        ("RINGWAY_RING__VIRTUAL_NODES", "0"),
        ("RINGWAY_RING__VIRTUAL_NODES", "10001"),
        ("RINGWAY_GATEWAY__MAX_RETRIES", "3"),
        ("RINGWAY_GATEWAY__REQUEST_TIMEOUT", "0s"),
        ("RINGWAY_NODE__WEIGHT", "10001"),
        ("RINGWAY_NODE__CACHE_SIZE", "0"),
        ("RINGWAY_NODE__TTL", "100years"),
        ("RINGWAY_NODE__ID", "a/b"),
        ("RINGWAY_NODE__GROUP_NAME", "a b"),
        ("RINGWAY_GROUPS__A-B C__TTL", "1s"),
        ("RINGWAY_SECURITY__ALLOW_INSECURE", "yes"),
    ] {
        let problem = only(&from_environment(&[(variable, value)]).unwrap_err());
        assert!(problem.contains(&format!("(environment {variable}): ")), "{problem}");
    }
    let edges = from_environment(&[
        ("RINGWAY_DISCOVERY__LEASE_TTL", "2s"),
        ("RINGWAY_RING__VIRTUAL_NODES", "10000"),
        ("RINGWAY_GATEWAY__MAX_RETRIES", "0"),
        ("RINGWAY_GATEWAY__MAX_VALUE", "64MiB"),
        ("RINGWAY_NODE__WEIGHT", "0"),
    ]);
    assert_eq!(edges.unwrap().settings.gateway.max_value, MAX_VALUE);
}

#[test]
fn a_file_that_cannot_be_used_is_named_by_what_named_it() {
    let missing = only(&from_environment(&[("RINGWAY_CONFIG", "/no/such.toml")]).unwrap_err());
    let wanted = "config = \"/no/such.toml\" (environment RINGWAY_CONFIG): the file can't be read";
    assert!(missing.starts_with(wanted), "{missing}");
    let broken = only(&from_file("[gateway]\nport = \n").unwrap_err());
    assert!(broken.contains("(flag --config): this is not TOML at line 2, column"), "{broken}");
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    let seed = "sesame".repeat(100);
    let problem = only(&from_environment(&[("RINGWAY_RING__SEED", &seed)]).unwrap_err());
    assert!(
        problem.starts_with("ring.seed = ******** (environment RINGWAY_RING__SEED)"),
        "{problem}"
    );
    let problem = only(&from_file("[ring]\nseed = 5353\n").unwrap_err());
    assert!(!problem.contains("5353"), "{problem}");
}

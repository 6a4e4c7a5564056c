//! The configuration, as whoever starts the real binaries meets it.

#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsStr,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use common::error::{Code, Error};
use fleet::{
    eventually, http,
    process::{Process, Signal, Spec, binary},
};
use proto::v1::{GetRequest, cache_client::CacheClient};
use tempfile::TempDir;

/// What `sysexits.h` calls EX_CONFIG.
const BAD_CONFIG: i32 = 78;
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports for tests that need to name one, outside of the range of outgoing connections.
const PORTS: std::ops::Range<u16> = 15_000..31_000;

/// A directory for a file and the logs.
struct Bench {
    dir: TempDir,
}

/// How a process ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    text: String,
}

impl Ended {
    fn says(&self, what: &[&str]) {
        for part in what {
            assert!(self.text.contains(part), "{part:?} is not in:\n{}", self.text);
        }
    }
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("ringway.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, spec: Spec) -> Process {
        Process::start(&spec, self.dir.path()).unwrap()
    }

    /// Runs something that ends by itself.
    async fn run(&self, spec: Spec) -> Ended {
        let process = self.start(spec);
        let code = process.wait(PATIENCE).await.unwrap().code();
        Ended { code, text: process.lines().join("\n") }
    }

    /// Starts something and waits until it says so; its address is the value of that field.
    async fn listening(&self, spec: Spec, field: &str) -> (Process, SocketAddr) {
        let process = self.start(spec);
        let field = format!("{field}=");
        let said = |line: &str| line.contains(" listens") && line.contains(&field);
        let line = process.wait_for_line("its address", PATIENCE, said).await.unwrap();
        let address = line.split(&field).nth(1).unwrap().split(' ').next().unwrap();
        (process, address.parse().unwrap())
    }
}

fn server(name: &str) -> Spec {
    Spec::new(name, binary(name).unwrap())
}

/// A gateway that needs no etcd.
fn gateway() -> Spec {
    server("apiserver").args(["--discovery", "static", "--static-nodes", "127.0.0.1:1"])
}

/// A node that needs no etcd, on that port.
fn node(port: u16) -> Spec {
    let own = format!("127.0.0.1:{port}");
    server("cachenode").args([
        "--discovery",
        "static",
        "--static-nodes",
        &own,
        "--node-port",
        &port.to_string(),
    ])
}

/// A port that was free a moment ago; so was the one that is so far above it.
fn free_port(distance: u16) -> u16 {
    let is_free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && TcpListener::bind(("127.0.0.1", *port + distance)).is_ok()
    };
    (0..100).map(|_| fastrand::u16(PORTS)).find(is_free).unwrap()
}

fn with_file(spec: Spec, file: &Path) -> Spec {
    spec.arg("--config").arg(file)
}

#[tokio::test]
async fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let bench = Bench::new();
    let [in_file, in_variable, in_flag] = [(); 3].map(|()| free_port(0));
    let file = bench.file(&format!("[gateway]\nport = {in_file}\n"));
    let flag = in_flag.to_string();
    let origin = |port: u16, origin: &str| {
        let (line, origin) = (format!("port = {port} "), format!("# {origin}"));
        move |text: &str| text.lines().any(|l| l.starts_with(&line) && l.ends_with(&origin))
    };
    let named = format!("file {}", file.display());
    let checked = || gateway().arg("--check-config");
    let variable = |spec: Spec| spec.env("RINGWAY_GATEWAY__PORT", in_variable.to_string());
    let flagged = |spec: Spec| spec.args(["--api-port", &flag]);
    let full = || flagged(variable(with_file(gateway(), &file)));
    for (spec, seen) in [
        (checked(), origin(8080, "default")),
        (with_file(checked(), &file), origin(in_file, &named)),
        (
            variable(with_file(checked(), &file)),
            origin(in_variable, "environment RINGWAY_GATEWAY__PORT"),
        ),
        (full().arg("--check-config"), origin(in_flag, "flag --api-port")),
    ] {
        let ended = bench.run(spec).await;
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        assert!(seen(&ended.text), "{}", ended.text);
    }
    let (_gateway, address) = bench.listening(full(), "address").await;
    assert_eq!(address.port(), in_flag);
    assert_eq!(http::get(address, "/livez").await.unwrap().status, 200);
    for other in [in_file, in_variable] {
        assert!(http::get(("127.0.0.1", other), "/livez").await.is_err());
    }
}

#[tokio::test]
async fn the_file_may_be_named_by_a_variable() {
    let bench = Bench::new();
    let file = bench.file("[gateway]\nmax_retries = 1\n");
    let ended = bench.run(gateway().arg("--check-config").env("RINGWAY_CONFIG", &file)).await;
    assert_eq!(ended.code, Some(0));
    ended.says(&["max_retries = 1 ", &format!("# file {}", file.display())]);
}

#[tokio::test]
async fn a_wrong_value_names_its_key_itself_and_its_layer() {
    let bench = Bench::new();
    let file = bench.file("[node]\nttl = \"soon\"\n");
    let of_file = format!("(file {})", file.display());
    for name in ["apiserver", "cachenode"] {
        let flag = if name == "apiserver" { "--api-port" } else { "--node-port" };
        let key = if name == "apiserver" { "gateway.port" } else { "node.port" };
        let variable = key.to_uppercase().replace('.', "__");
        let variable = format!("RINGWAY_{variable}");
        for (spec, said) in [
            (server(name).args([flag, "70000"]), [key, "70000", &format!("(flag {flag})")]),
            (
                server(name).env(&variable, "http"),
                [key, "\"http\"", &format!("(environment {variable})")],
            ),
            (with_file(server(name), &file), ["node.ttl", "\"soon\"", &of_file]),
            // What is wrong with a default is that it does not fit the other values.
            (server(name).args(["--discovery", "static"]), ["discovery.nodes", "[]", "(default)"]),
        ] {
            let ended = bench.run(spec).await;
            assert_eq!(ended.code, Some(BAD_CONFIG), "{}", ended.text);
            ended.says(&said);
        }
    }
    let ended = bench.run(with_file(server("apiserver"), Path::new("/no/such.toml"))).await;
    assert_eq!(ended.code, Some(BAD_CONFIG));
    ended.says(&["/no/such.toml", "flag --config"]);
}

#[tokio::test]
async fn all_mistakes_are_told_at_once() {
    let bench = Bench::new();
    let file = bench.file("[gateway]\nprot = 1\n[colours]\n[groups.g]\ncapcity = 1\n");
    let ended = bench.run(with_file(server("cachenode"), &file)).await;
    assert_eq!(ended.code, Some(BAD_CONFIG));
    ended.says(&["gateway.prot", "did you mean gateway.port?", "colours", "groups.g.capcity"]);
    ended.says(&["3 mistakes", &format!("(file {})", file.display())]);
}

#[tokio::test]
async fn a_variable_that_nothing_reads_is_warned_of() {
    let bench = Bench::new();
    let spec = || gateway().args(["--api-port", "0"]).env("RINGWAY_GATEWAY__PROT", "1");
    let said = "nothing reads RINGWAY_GATEWAY__PROT; did you mean RINGWAY_GATEWAY__PORT?";
    let ended = bench.run(spec().arg("--check-config")).await;
    assert_eq!(ended.code, Some(0));
    ended.says(&[said]);
    let (gateway, _) = bench.listening(spec(), "address").await;
    let warned = |line: &String| line.contains("WARN") && line.contains(said);
    assert!(gateway.lines().iter().any(warned), "{:?}", gateway.lines());
}

#[tokio::test]
async fn an_open_door_has_to_be_asked_for() {
    let bench = Bench::new();
    let (open_gateway, open_node) = (["--api-host", "0.0.0.0"], ["--node-host", "0.0.0.0"]);
    let advertised = ["--advertise-host", "127.0.0.1"];
    let how = ["0.0.0.0", "127.0.0.1", "--insecure", "security.allow_insecure"];
    for spec in [gateway().args(open_gateway), node(free_port(0)).args(open_node).args(advertised)]
    {
        let ended = bench.run(spec).await;
        assert_eq!(ended.code, Some(BAD_CONFIG), "{}", ended.text);
        ended.says(&how);
    }
    let ended = bench.run(node(free_port(0)).args(open_node).arg("--insecure")).await;
    assert_eq!(ended.code, Some(BAD_CONFIG), "{}", ended.text);
    ended.says(&["node.host", "wildcard", "--advertise-host"]);

    let spec = gateway().args(open_gateway).args(["--api-port", "0", "--insecure"]);
    let (_gateway, address) = bench.listening(spec, "address").await;
    assert!(address.ip().is_unspecified());
    let answer = http::get(("127.0.0.1", address.port()), "/livez").await.unwrap();
    assert_eq!(answer.status, 200);

    let port = free_port(0);
    let spec = node(port).args(open_node).args(advertised).args(["--insecure", "--http-port", "0"]);
    let (_node, address) = bench.listening(spec, "http").await;
    eventually("the node is registered", Duration::from_secs(1), async || {
        let ready = http::get(("127.0.0.1", address.port()), "/readyz").await.unwrap();
        (ready.status == 200).then_some(()).ok_or(ready.text())
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let bench = Bench::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    for spec in [
        gateway().args(["--api-port", &port]),
        node(free_port(0)).args(["--http-port", &port]),
        server("cachenode").args(["--node-port", &port]),
    ] {
        let ended = bench.run(spec).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        ended.says(&[&format!("cannot listen on {address}"), "another process has that port"]);
    }
}

#[tokio::test]
async fn a_busy_default_port_gives_way_to_a_free_one() {
    let bench = Bench::new();
    let port = free_port(1000);
    let _taken = TcpListener::bind(("127.0.0.1", port + 1000)).unwrap();
    let (node, address) = bench.listening(node(port), "http").await;
    assert_ne!(address.port(), port + 1000);
    let lines = node.lines();
    let said = lines.iter().find(|line| line.contains("the default HTTP port is taken")).unwrap();
    assert!(said.contains("WARN") && said.contains(&address.to_string()), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{}", port + 1000)), "{said}");
    assert_eq!(http::get(address, "/livez").await.unwrap().status, 200);

    let free = free_port(1000);
    let (_node, address) = bench.listening(self::node(free), "http").await;
    assert_eq!(address.port(), free + 1000, "and is taken where it is free");
}

#[tokio::test]
async fn help_and_version_tell_what_there_is() {
    let bench = Bench::new();
    for (name, flags) in [
        ("apiserver", ["--api-port", "--etcd-endpoints", "--check-config", "--insecure"]),
        ("cachenode", ["--node-port", "--etcd-endpoints", "--group-name", "--cache-size"]),
    ] {
        let help = bench.run(server(name).arg("--help")).await;
        assert_eq!(help.code, Some(0));
        help.says(&flags);
        help.says(&["docs/configuration.md", "[default: localhost:2379]"]);
        let version = bench.run(server(name).arg("--version")).await;
        assert_eq!(version.code, Some(0));
        assert_eq!(version.text, format!("{name} {}", env!("CARGO_PKG_VERSION")));
        let unknown = bench.run(server(name).arg("--colour")).await;
        assert!(unknown.code.is_some_and(|code| code != 0));
        unknown.says(&["--colour"]);
    }
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    let bench = Bench::new();
    let file = bench.file("[ring]\nseed = \"sesame\"\n");
    for spec in [
        with_file(gateway(), &file).arg("--check-config"),
        gateway().env("RINGWAY_RING__SEED", "sesame").arg("--check-config"),
        gateway().env("RINGWAY_RING__SEED", "sesame".repeat(100)),
    ] {
        let ended = bench.run(spec).await;
        ended.says(&["seed = ", "********"]);
        assert!(!ended.text.contains("sesame"), "{}", ended.text);
    }
    let spec = with_file(gateway(), &file).args(["--api-port", "0", "--log-level", "trace"]);
    let (gateway, address) = bench.listening(spec, "address").await;
    for target in ["/metrics", "/health", "/api/nodes"] {
        assert!(!http::get(address, target).await.unwrap().text().contains("sesame"), "{target}");
    }
    gateway.signal(Signal::TERM).unwrap();
    gateway.wait(PATIENCE).await.unwrap();
    assert!(!fs::read_to_string(gateway.log()).unwrap().contains("sesame"));
}

#[tokio::test]
async fn a_node_serves_the_groups_of_its_file() {
    let bench = Bench::new();
    let file = bench.file(
        "[groups.users]\ncapacity = \"2MiB\"\nmax_value = \"1KiB\"\nttl = \"1m\"\nttl_jitter = 0\n\
         origin = { kind = \"static\", values = { Ada = \"1815\" } }\n",
    );
    let port = free_port(0);
    let spec = with_file(node(port), &file).args(["--http-port", "0"]);
    let (node, _) = bench.listening(spec, "http").await;
    let own = format!("127.0.0.1:{port}");
    let spec = server("apiserver").args(["--discovery", "static", "--static-nodes", &own]);
    let (_gateway, api) =
        bench.listening(with_file(spec, &file).args(["--api-port", "0"]), "address").await;
    let target = "/api/cache?group=users&key=Ada";
    let read = http::get(api, target).await.unwrap();
    assert_eq!((read.status, read.text().as_str()), (200, "1815"));
    assert_eq!(read.header("cache-control"), Some("max-age=60"));
    let large = http::put(api, target, vec![b'x'; 1025]).await.unwrap();
    assert_eq!((large.status, large.json()["error"].as_str()), (413, Some("too_large")));
    let scores = http::get(api, "/api/cache?group=scores&key=Tom").await.unwrap();
    assert_eq!(scores.json()["error"], "group_not_found");
    let groups = http::get(api, "/api/groups").await.unwrap().json();
    let names: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|g| &g["name"]).collect();
    assert_eq!(names, ["default", "users"]);
    assert_eq!(groups["groups"][1]["capacity"], 2 << 20);

    let mut client = CacheClient::connect(format!("http://{own}")).await.unwrap();
    let tom = GetRequest { group: "scores".to_owned(), key: "Tom".to_owned() };
    let status = client.get(tom).await.unwrap_err();
    assert_eq!(Error::from(&status).code(), Code::GroupNotFound);
    let lines = node.lines();
    assert!(!lines.iter().any(|line| line.contains("demo group")), "{lines:?}");
}

#[tokio::test]
async fn the_flags_of_the_demo_group_shape_it() {
    let bench = Bench::new();
    let port = free_port(0);
    let flags =
        ["--group-name", "grades", "--cache-size", "1MiB", "--ttl", "90s", "--http-port", "0"];
    let (_node, _) = bench.listening(node(port).args(flags), "http").await;
    let mut client = CacheClient::connect(format!("http://127.0.0.1:{port}")).await.unwrap();
    let tom = GetRequest { group: "grades".to_owned(), key: "Tom".to_owned() };
    let read = client.get(tom).await.unwrap().into_inner();
    assert_eq!(read.value, "630");
    assert!((60_000..=90_000).contains(&read.ttl_ms), "{}", read.ttl_ms);
    let stats = client.stats(proto::v1::StatsRequest {}).await.unwrap().into_inner();
    let group = stats.groups.iter().find(|group| group.name == "grades").unwrap();
    assert_eq!((group.capacity_bytes, group.ttl_ms), (1 << 20, 90_000));

    let file = bench.file("[groups.users]\n");
    let spec = with_file(node(free_port(0)), &file).args(flags).arg(OsStr::new("--check-config"));
    let ended = bench.run(spec).await;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    ended.says(&["node.ttl (flag --ttl) is not used"]);
}

#[tokio::test]
async fn output_that_can_not_be_written_stops_nothing() {
    let bench = Bench::new();
    let port = free_port(0);
    let program = binary("apiserver").unwrap();
    let program = program.display();
    let full = |flags: &str| {
        let line = format!("exec {program} --discovery static --static-nodes 127.0.0.1:1 {flags}");
        Spec::new("full", "sh").args(["-c", &line])
    };
    let checked = bench.run(full("--check-config >/dev/full")).await;
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    let gateway = bench.start(full(&format!("--api-port {port} 2>/dev/full")));
    eventually("the gateway to serve", Duration::from_secs(1), async || {
        http::get(("127.0.0.1", port), "/livez").await
    })
    .await;
    gateway.signal(Signal::TERM).unwrap();
    assert_eq!(gateway.wait(PATIENCE).await.unwrap().code(), Some(0));
}

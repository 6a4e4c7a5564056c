//! Origins of kind `sql`: a PostgreSQL and a file of SQLite.

use std::{path::Path, time::Duration};

use fleet::{
    cluster::{Cluster, Extras, Plan},
    eventually, http,
    postgres::{PASSWORD, Postgres},
};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::task::JoinSet;

use crate::{
    api::{assert_error, query},
    asking::{HOSTILE, once_for_all, refusal},
};

const VALUE: &str = "SELECT value FROM users WHERE key = $1";
const USERS: &str = "CREATE TABLE users (key text, value text);
    INSERT INTO users VALUES ('Tom', '630'), ('empty', ''), ('null', NULL), ('new', '1'),
        ('two', 'a'), ('two', 'b'), ('O''Hara', '7'), ('again', '2'), ('third', '3');";

/// A group that asks a query.
fn group(name: &str, url: &str, query: &str, more: &str) -> String {
    format!(
        "[groups.{name}]\nmax_value = \"1KiB\"\nnegative_ttl = \"0s\"\n\
         origin = {{ kind = \"sql\", url = \"{url}\", query = \"{query}\"{more} }}\n"
    )
}

async fn cluster(groups: &[String]) -> Cluster {
    let node = Extras::default().config(groups.concat());
    let node = node.env("DB_PASSWORD", PASSWORD.replace('/', "%2F"));
    Cluster::start(Plan { node, gateway: Extras::patient(), ..Plan::default() }).await.unwrap()
}

/// What both databases do alike with a table `users`.
async fn asked_of_users(cluster: &Cluster) {
    let gateway = cluster.gateway(0).address();
    let get = async |key: &str| http::get(gateway, &query("users", key)).await.unwrap();
    for (key, value) in [("Tom", "630"), ("empty", ""), ("O'Hara", "7")] {
        let first = get(key).await;
        assert_eq!((first.status, first.text().as_str()), (200, value), "{key}");
        assert_eq!(first.header("content-type"), Some("text/plain"), "{key}");
        assert_eq!(get(key).await.header("cache-status"), Some("ringway; hit"), "{key}");
    }
    for key in ["nobody", "null", "tom"] {
        assert_error(key, &get(key).await, 404, "not_found");
    }
    for key in ["two", "large"] {
        assert_error(key, &get(key).await, 502, "origin_error");
    }
    for key in HOSTILE {
        let answer = get(key).await;
        assert!(matches!(answer.status, 400 | 404), "{key:?}: {}", answer.status);
    }
    once_for_all(cluster, "users", "new", "1").await;
    // Several columns, and a write that calls itself a SELECT: nothing is served, nothing written.
    for group in ["wide", "writes"] {
        let answer = http::get(gateway, &query(group, "Tom")).await.unwrap();
        assert_error(group, &answer, 502, "origin_error");
    }
}

#[tokio::test]
async fn a_postgresql_is_asked() {
    let mut postgres = Postgres::start().await.unwrap();
    postgres.execute(USERS).await.unwrap();
    postgres.execute("INSERT INTO users VALUES ('large', repeat('x', 1025))").await.unwrap();
    let url = postgres.url_with("${DB_PASSWORD}");
    let slow = "SELECT value FROM users, pg_sleep(60) WHERE key = $1";
    let writes =
        "WITH w AS (INSERT INTO users VALUES ($1, 'w') RETURNING value) SELECT value FROM w";
    let cluster = cluster(&[
        group("users", &url, VALUE, ""),
        group("wide", &url, "SELECT key, value FROM users WHERE key = $1", ""),
        group("writes", &url, writes, ""),
        group("slow", &url, slow, ", timeout = \"500ms\""),
        group("numbers", &url, "SELECT 2 * $1::bigint", ""),
    ])
    .await;
    asked_of_users(&cluster).await;
    assert_eq!(postgres.logged("parameters: $1 = 'new'").unwrap(), 1, "one query for 200 readers");
    assert_eq!(postgres.logged("read-only transaction").unwrap(), 1);
    assert_eq!(postgres.logged("DROP TABLE").unwrap(), 1, "as a parameter");

    let gateway = cluster.gateway(0).address();
    let get = async |group, key: &str| http::get(gateway, &query(group, key)).await.unwrap();
    assert_eq!(get("numbers", "21").await.text(), "42");
    assert_error("no number", &get("numbers", "x").await, 400, "invalid_request");
    assert_error("slow", &get("slow", "Tom").await, 504, "timeout");
    eventually("the statement is given up", Duration::from_secs(1), async || {
        postgres.logged("canceling statement").unwrap() == 1
    })
    .await;

    // What was prepared for the table as it was is of no use either.
    let more = "INSERT INTO users SELECT 'more' || n, n FROM generate_series(1, 12) n;
        ALTER TABLE users ALTER COLUMN value TYPE varchar(2000)";
    postgres.execute(more).await.unwrap();
    for n in 1..=12 {
        let answer = get("users", &format!("more{n}")).await;
        assert_eq!((answer.status, answer.text()), (200, n.to_string()));
    }

    postgres.kill();
    assert_error("dead", &get("users", "again").await, 502, "origin_error");
    assert_eq!(get("users", "Tom").await.text(), "630", "what is held needs no database");
    postgres.restart().await.unwrap();
    // What was connected before is of no use, which nobody has to hear of.
    assert_eq!(get("users", "third").await.text(), "3");
    for node in cluster.nodes() {
        let lines = node.process().lines().join("\n");
        assert!(!lines.contains("sesame"), "{lines}");
    }
}

#[tokio::test]
async fn what_postgresql_gives_becomes_text() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.url_with("${DB_PASSWORD}");
    let types = [
        ("text", "'é'::text", "text/plain", "é"),
        ("varchar", "'a'::varchar(5)", "text/plain", "a"),
        ("bytes", "'\\\\x00ff'::bytea", "application/octet-stream", "\0\u{fffd}"),
        ("json", "'{\\\"a\\\": 1}'::json", "application/json", "{\"a\": 1}"),
        ("jsonb", "'{\\\"a\\\": 1}'::jsonb", "application/json", "{\"a\": 1}"),
        ("number", "-5::int", "text/plain", "-5"),
        ("big", "9007199254740993", "text/plain", "9007199254740993"),
        ("real", "0.5::float8", "text/plain", "0.5"),
        ("yes", "true", "text/plain", "true"),
        (
            "uuid",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
            "text/plain",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
    ];
    let mut groups: Vec<_> = types
        .iter()
        .map(|(name, value, ..)| group(name, &url, &format!("SELECT {value} WHERE $1 <> ''"), ""))
        .collect();
    groups.push(group("time", &url, "SELECT now() WHERE $1 <> ''", ""));
    let cluster = cluster(&groups).await;
    let gateway = cluster.gateway(0).address();
    for (name, _, content_type, text) in types {
        let answer = http::get(gateway, &query(name, "k")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{name}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{name}");
    }
    let time = http::get(gateway, &query("time", "k")).await.unwrap();
    assert_error("time", &time, 502, "origin_error");
    assert!(time.text().contains("TIMESTAMPTZ") && time.text().contains("CAST"), "{}", time.text());
}

/// Makes a file with the tables of the test.
async fn sqlite(file: &Path) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let more = "INSERT INTO users VALUES ('large', printf('%.*c', 1025, 'x'));
        CREATE TABLE typed (key text, value);
        INSERT INTO typed VALUES ('text', 'é'), ('blob', x'00ff'), ('number', -5), ('real', 0.5);";
    let statements = AssertSqlSafe(format!("{USERS}{more}"));
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_sqlite_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.db");
    sqlite(&file).await;
    let before = std::fs::read(&file).unwrap();
    let url = format!("sqlite://{}", file.display());
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                SELECT max(i) FROM n WHERE $1 <> ''";
    let cluster = cluster(&[
        group("users", &url, VALUE, ""),
        group("wide", &url, "SELECT key, value FROM users WHERE key = $1", ""),
        group("writes", &url, "WITH w AS (SELECT $1) INSERT INTO users SELECT 'w', 'w'", ""),
        group("typed", &url, "SELECT value FROM typed WHERE key = $1", ""),
        group("slow", &url, slow, ", timeout = \"300ms\", max_loads = 1"),
    ])
    .await;
    asked_of_users(&cluster).await;
    let gateway = cluster.gateway(0).address();
    let get = async |group, key| http::get(gateway, &query(group, key)).await.unwrap();
    for (key, content_type, text) in [
        ("text", "text/plain", "é"),
        ("blob", "application/octet-stream", "\0\u{fffd}"),
        ("number", "text/plain", "-5"),
        ("real", "text/plain", "0.5"),
    ] {
        let answer = get("typed", key).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{key}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{key}");
    }
    for key in ["a", "b", "c"] {
        assert_error("slow", &get("slow", key).await, 504, "timeout");
    }
    // A statement that nobody waits for any more does not go on.
    eventually("no node is busy", Duration::from_secs(2), async || {
        let mut nodes = JoinSet::new();
        for node in cluster.nodes() {
            nodes.spawn(share_of_a_core(node.process().id()));
        }
        let busiest = nodes.join_all().await.into_iter().fold(0.0, f64::max);
        if busiest < 0.5 { Ok(()) } else { Err(format!("{busiest} of a core")) }
    })
    .await;
    assert!(std::fs::read(&file).unwrap() == before, "it was written to");

    std::fs::write(&file, "this is no database, and was never one").unwrap();
    assert_error("broken", &get("users", "again").await, 502, "origin_error");
    assert_eq!(get("users", "Tom").await.text(), "630", "what is held needs no database");
}

/// What a process uses of a core, over a moment.
async fn share_of_a_core(pid: u32) -> f64 {
    const MOMENT: Duration = Duration::from_millis(200);
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split(' ').filter_map(|it| it.parse().ok()).collect();
        // User and system time, in hundredths of a second: the state, which is no number, is left out.
        fields[10] + fields[11]
    };
    let before = used();
    tokio::time::sleep(MOMENT).await;
    (used() - before) as f64 / 100.0 / MOMENT.as_secs_f64()
}

#[tokio::test]
async fn what_only_a_node_can_tell_ends_it_by_name() {
    for (origin, field, hint) in [
        (
            "kind = \"sql\", url = \"sqlite:///no/such.db\", query = \"SELECT $1\"",
            "groups.g.origin.url",
            "No such file",
        ),
        (
            "kind = \"sql\", url = \"${RINGWAY_TEST_NONE}\", query = \"SELECT $1\"",
            "groups.g.origin.url",
            "RINGWAY_TEST_NONE",
        ),
        (
            // A password that is not percent-encoded.
            "kind = \"sql\", url = \"postgres://u:${RINGWAY_TEST_RAW}@h/d\", query = \"SELECT $1\"",
            "groups.g.origin.url",
            "percent-encoded",
        ),
        (
            "kind = \"opendal\", scheme = \"fs\", path = \"{key}\", options = { root = \"/no/such\" }",
            "groups.g.origin.options.root",
            "No such file",
        ),
    ] {
        let lines = refusal(&format!("[groups.g]\norigin = {{ {origin} }}\n")).await;
        assert!(lines.contains(field) && lines.contains(hint), "{lines}");
        assert!(!lines.contains("vT2mQ"), "{lines}");
    }
}

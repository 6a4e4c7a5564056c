//! The client against a server that says what the test wants.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const MOST: u64 = 1000;

fn settings(url: &str) -> HttpSettings {
    HttpSettings {
        url: url.to_owned(),
        headers: BTreeMap::new(),
        timeout: Duration::from_secs(5),
        max_loads: 1,
        allow_link_local: false,
    }
}

/// A server that answers one request with these bytes and closes; what it was asked.
async fn server(answer: impl Into<Vec<u8>>) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, answer) = (listener.local_addr().unwrap().port(), answer.into());
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).await.unwrap();
            asked.extend(byte);
        }
        // Whoever has seen enough hangs up.
        let _ = socket.write_all(&answer).await;
        String::from_utf8(asked).unwrap()
    });
    (port, asked)
}

/// What the origin makes of an answer to a request for `key`.
async fn load(key: &str, answer: impl Into<Vec<u8>>) -> Result<Option<Loaded>, LoadError> {
    let (port, _asked) = server(answer).await;
    let url = format!("http://127.0.0.1:{port}/users/{{key}}");
    Http::new(&settings(&url), MOST).unwrap().load(key.to_owned()).await
}

fn failure(answer: Result<Option<Loaded>, LoadError>) -> String {
    let Err(LoadError::Failed(why)) = answer else { panic!("{answer:?}") };
    why
}

#[tokio::test]
async fn a_value_comes_with_its_type_and_its_time() {
    let answer = load(
        "Tom",
        "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nCache-Control: max-age=7\r\n\
         Content-Length: 3\r\n\r\n630",
    );
    let loaded = answer.await.unwrap().unwrap();
    let meant = Loaded {
        content_type: "text/csv".into(),
        ttl: Some(Duration::from_secs(7)),
        ..Loaded::from("630")
    };
    assert_eq!(loaded, meant);
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n63\r\n1\r\n0\r\n0\r\n\r\n";
    assert_eq!(load("Tom", chunked).await, Ok(Some("630".into())));
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(load("Tom", empty).await, Ok(Some(Loaded::default())));
    assert_eq!(load("Tom", "HTTP/1.1 204 No Content\r\n\r\n").await, Ok(Some(Loaded::default())));
}

#[tokio::test]
async fn a_value_comes_with_its_tags() {
    for (headers, tags) in [
        ("Ringway-Tags: a, b\r\nRingway-Tags: c,a\r\n", "a,b,c"),
        ("", ""),
        // It can't be kept, and the group sees that.
        ("Ringway-Tags: a b, c\r\n", "a b, c"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 1\r\n\r\nx");
        let loaded = load("Tom", answer).await.unwrap().unwrap();
        assert_eq!(loaded.tags, tags);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_failed() {
    for status in ["404 Not Found", "410 Gone"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(load("Tom", answer).await, Ok(None), "{status}");
    }
    for status in ["500 Oops", "403 No", "206 Partial Content", "304 Not Modified"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let why = failure(load("Tom", answer).await);
        assert!(why.contains(&status[..3]), "{why}");
    }
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n";
    assert!(failure(load("Tom", moved).await).contains("redirects are not followed"));
    failure(load("Tom", "nonsense\r\n\r\n").await);
    failure(load("Tom", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").await);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let fits = "x".repeat(MOST as usize);
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {MOST}\r\n\r\n{fits}");
    assert_eq!(load("Tom", whole).await.unwrap().unwrap().value.len(), fits.len());
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MOST + 1);
    assert!(failure(load("Tom", announced).await).contains("over 1000 bytes"));
    let without_end = format!("HTTP/1.1 200 OK\r\n\r\n{fits}x");
    assert!(failure(load("Tom", without_end).await).contains("over 1000 bytes"));
}

#[tokio::test]
async fn a_request_has_the_key_and_the_headers() {
    let (port, asked) = server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let mut settings = settings(&format!("http://127.0.0.1:{port}/get?u={{key}}&x=1"));
    settings.headers.insert("X-Token".into(), "plain".into());
    let http = Http::new(&settings, MOST).unwrap();
    assert_eq!(http.load("a b/\u{e9}".into()).await, Ok(None));
    let asked = asked.await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /get?u=a%20b%2f%c3%a9&x=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nx-token: plain\r\n"), "{asked}");
    assert!(asked.contains("\r\nuser-agent: ringway/"), "{asked}");
}

#[tokio::test]
async fn a_key_that_would_lead_elsewhere_is_not_asked_for() {
    let http = Http::new(&settings("http://127.0.0.1:1/users/{key}"), MOST).unwrap();
    assert_eq!(http.load("..".into()).await, Err(LoadError::Refused));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_without_its_address() {
    let http = Http::new(&settings("http://127.0.0.1:1/users/{key}"), MOST).unwrap();
    let why = failure(http.load("Tom".into()).await);
    assert!(why.contains("refused") && !why.contains("127.0.0.1"), "{why}");
}

#[tokio::test]
async fn names_that_lead_to_link_local_addresses_are_not_connected_to() {
    let resolve =
        |allow_link_local, name: &str| Resolver { allow_link_local }.resolve(name.parse().unwrap());
    // A literal address is looked up like a name, and is itself.
    for name in ["169.254.169.254", "fe80::1"] {
        let refused = resolve(false, name).await.err().expect("refused");
        assert!(refused.to_string().contains("link-local"), "{refused}");
        assert_eq!(resolve(true, name).await.unwrap().count(), 1);
    }
    assert!(resolve(false, "localhost").await.unwrap().count() > 0);
}

#[test]
fn an_address_is_looked_through_however_it_is_written() {
    for host in ["2852039166", "0xa9fea9fe", "169.254.43518", "[fe80::1]"] {
        let mut settings = settings(&format!("http://{host}/{{key}}"));
        let why = Http::new(&settings, MOST).err().expect("refused");
        assert!(why.contains("link-local"), "{host}: {why}");
        settings.allow_link_local = true;
        assert!(Http::new(&settings, MOST).is_ok(), "{host}");
    }
}

#[test]
fn headers_name_variables() {
    let variable = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
    let filled = |text: &str| secrets::filled_with(text, variable);
    let settings = BTreeMap::from([("X-A".to_owned(), "${TOKEN}".to_owned())]);
    let headers = headers(&settings, filled).unwrap();
    assert!(headers["x-a"] == "secret" && headers["x-a"].is_sensitive());
    let missing =
        super::headers(&settings, |text| secrets::filled_with(text, |_| None)).unwrap_err();
    assert!(missing.contains("origin.headers.X-A") && missing.contains("TOKEN"), "{missing}");
}

#[tokio::test]
async fn a_value_comes_with_what_it_can_be_recognised_by() {
    for (head, validator) in [
        ("ETag: \"v1\"\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n", "\"v1\""),
        ("ETag: W/\"v1\"\r\n", "W/\"v1\""),
        ("Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("ETag: v1\r\nLast-Modified: today\r\n", ""),
        ("", ""),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 1\r\n\r\nx");
        assert_eq!(load("Tom", answer).await.unwrap().unwrap().validator, validator, "{head}");
    }
}

/// What the origin makes of an answer to the question whether a value is still true, and what it asked.
async fn reload(validator: &str, answer: &str) -> (Result<Reloaded, LoadError>, String) {
    let (port, asked) = server(answer).await;
    let url = format!("http://127.0.0.1:{port}/users/{{key}}");
    let http = Http::new(&settings(&url), MOST).unwrap();
    let reloaded = http.reload("Tom".into(), validator.into()).await;
    (reloaded, asked.await.unwrap())
}

#[tokio::test]
async fn a_value_is_asked_for_only_if_it_is_another_one() {
    const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=7\r\n\r\n";
    let ttl = Some(Duration::from_secs(7));
    for (validator, header) in [
        ("\"v1\"", "if-none-match: \"v1\"\r\n"),
        ("W/\"v1\"", "if-none-match: W/\"v1\"\r\n"),
        ("Sat, 21 Nov 2026 10:00:00 GMT", "if-modified-since: Sat, 21 Nov 2026 10:00:00 GMT\r\n"),
    ] {
        let (reloaded, asked) = reload(validator, UNCHANGED).await;
        assert_eq!(reloaded, Ok(Reloaded::Unchanged { ttl }));
        assert!(asked.contains(header) && asked.starts_with("GET /users/Tom "), "{asked}");
    }
    let changed = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let (reloaded, _) = reload("\"v1\"", changed).await;
    assert_eq!(reloaded, Ok(Reloaded::Anew(Some("x".into()))));
    let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(reload("\"v1\"", gone).await.0, Ok(Reloaded::Anew(None)));
}

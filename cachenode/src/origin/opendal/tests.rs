//! A service that is a directory, or a server, of the test's own.

use std::{fs, os::unix::fs::symlink, process::Command, time::Duration};

#[cfg(feature = "s3")]
use axum::http::HeaderMap;
use axum::{
    Router,
    body::Body,
    http::{Method, Response, Uri},
    response::{IntoResponse, Redirect},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

const MOST: u64 = 1000;

fn settings(scheme: &str, path: &str, options: &[(&str, &str)]) -> OpendalSettings {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    OpendalSettings {
        scheme: scheme.to_owned(),
        path: path.to_owned(),
        options: options.iter().map(own).collect(),
        timeout: Duration::from_secs(5),
        max_loads: 1,
        allow_link_local: false,
    }
}

/// A directory, with a file next to it that nobody may read through it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.root().join("deep/er")).unwrap();
        fs::write(place.0.path().join("secret"), "secret").unwrap();
        fs::write(place.root().join("Tom"), "630").unwrap();
        fs::write(place.root().join("deep/er/Sam"), "567").unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn origin(&self, path: &str) -> Opendal {
        let root = self.root();
        Opendal::new(&settings("fs", path, &[("root", root.to_str().unwrap())]), MOST).unwrap()
    }
}

async fn load(origin: &Opendal, key: &str) -> Result<Option<Loaded>, LoadError> {
    origin.load(key.to_owned()).await
}

fn failure(answer: Result<Option<Loaded>, LoadError>) -> String {
    let Err(LoadError::Failed(why)) = answer else { panic!("{answer:?}") };
    why
}

#[tokio::test]
async fn a_key_is_a_path_below_the_root() {
    let place = Place::new();
    let origin = place.origin("{key}");
    assert_eq!(load(&origin, "Tom").await, Ok(Some("630".into())));
    assert_eq!(load(&origin, "deep/er/Sam").await, Ok(Some("567".into())));
    let long = "x".repeat(1000);
    for absent in ["Jack", "deep", "deep/er", "Tom/x", "%2e%2e%2fsecret", "\u{e9}", &long] {
        assert_eq!(load(&origin, absent).await, Ok(None), "{absent}");
    }
    assert_eq!(load(&place.origin("deep/er/{key}"), "Sam").await, Ok(Some("567".into())));
    fs::write(place.root().join("empty"), "").unwrap();
    assert_eq!(load(&origin, "empty").await, Ok(Some(Loaded::default())));
}

#[tokio::test]
async fn a_key_that_would_lead_elsewhere_is_refused() {
    let place = Place::new();
    let outside = place.0.path().join("secret");
    for key in [
        "..",
        ".",
        "../secret",
        "deep/../../secret",
        "deep/..",
        "/etc/passwd",
        "//host/x",
        "http://h/x",
        "Tom/",
        "deep//er/Sam",
        " Tom",
        "Tom ",
        "a\0b",
        "a\nb",
        "..\\secret",
        outside.to_str().unwrap(),
    ] {
        assert_eq!(load(&place.origin("{key}"), key).await, Err(LoadError::Refused), "{key:?}");
    }
    assert_eq!(load(&place.origin(".{key}"), ".").await, Err(LoadError::Refused), "together");
}

#[tokio::test]
async fn links_are_followed_as_far_as_they_stay_inside() {
    let place = Place::new();
    let (root, outside) = (place.root(), place.0.path().join("secret"));
    symlink("deep/er/Sam", root.join("inside")).unwrap();
    symlink(&outside, root.join("file")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink(place.0.path(), root.join("directory")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let origin = place.origin("{key}");
    assert_eq!(load(&origin, "inside").await, Ok(Some("567".into())));
    assert_eq!(load(&origin, "dangling").await, Ok(None));
    for key in ["file", "relative", "directory/secret"] {
        let why = failure(load(&origin, key).await);
        assert!(why.contains("leads out"), "{key}: {why}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_file_is_not_read() {
    let place = Place::new();
    let fits = vec![b'x'; MOST as usize];
    fs::write(place.root().join("fits"), &fits).unwrap();
    fs::write(place.root().join("large"), [&fits[..], b"x"].concat()).unwrap();
    assert!(Command::new("mkfifo").arg(place.root().join("pipe")).status().unwrap().success());
    let origin = place.origin("{key}");
    assert_eq!(load(&origin, "fits").await.unwrap().unwrap().value, fits);
    assert!(failure(load(&origin, "large").await).contains("over 1000 bytes"));
    assert!(failure(load(&origin, "pipe").await).contains("no file"));
}

#[tokio::test]
async fn a_web_server_is_read_below_its_root_and_not_followed() {
    let only = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
    let app = Router::new().fallback(move |method: Method, uri: Uri| async move {
        assert!(matches!(method, Method::HEAD | Method::GET), "{method}");
        match uri.path() {
            "/base/a%20b/%25" => ([("content-type", "text/csv")], "630").into_response(),
            "/base/moved" => Redirect::to("/base/a%20b/%25").into_response(),
            "/base/large" => "x".repeat(MOST as usize + 1).into_response(),
            "/base/broken" => only(500),
            _ => only(404),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let options = [("endpoint", endpoint.as_str()), ("root", "/base")];
    let origin = Opendal::new(&settings("http", "{key}", &options), MOST).unwrap();
    let found = Loaded { content_type: "text/csv".into(), ..Loaded::from("630") };
    assert_eq!(load(&origin, "a b/%").await, Ok(Some(found)));
    for absent in ["nobody", "%2e%2e/secret", "a?b#c"] {
        assert_eq!(load(&origin, absent).await, Ok(None), "{absent}");
    }
    assert_eq!(load(&origin, "../secret").await, Err(LoadError::Refused));
    for key in ["moved", "broken"] {
        failure(load(&origin, key).await);
    }
    assert!(failure(load(&origin, "large").await).contains("over 1000 bytes"));
}

/// What is asked of an S3: signed, and by the bucket's path.
#[cfg(feature = "s3")]
#[tokio::test]
async fn a_bucket_is_read_with_signed_requests() {
    let only = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
    let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
        let signed = headers.get("authorization").and_then(|it| it.to_str().ok());
        if !signed.is_some_and(|it| it.starts_with("AWS4-HMAC-SHA256 Credential=app/")) {
            return only(403).into_response();
        }
        match uri.path() {
            "/users/base/Tom" => ([("content-type", "text/csv")], "630").into_response(),
            _ => only(404).into_response(),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let options = [
        ("endpoint", endpoint.as_str()),
        ("bucket", "users"),
        ("root", "/base"),
        ("region", "us-east-1"),
        ("access_key_id", "app"),
        ("secret_access_key", "sesame"),
        ("disable_config_load", "true"),
    ];
    let origin = Opendal::new(&settings("s3", "{key}", &options), MOST).unwrap();
    let found = Loaded { content_type: "text/csv".into(), ..Loaded::from("630") };
    assert_eq!(load(&origin, "Tom").await, Ok(Some(found)));
    assert_eq!(load(&origin, "nobody").await, Ok(None));
    assert_eq!(load(&origin, "../Tom").await, Err(LoadError::Refused));
}

#[tokio::test]
async fn a_memory_has_nothing_but_is_asked_alike() {
    let origin = Opendal::new(&settings("memory", "{key}", &[]), MOST).unwrap();
    assert_eq!(load(&origin, "Tom").await, Ok(None));
    assert_eq!(load(&origin, "../Tom").await, Err(LoadError::Refused));
}

#[test]
fn what_can_not_be_is_told_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    let (missing, file) = (missing.to_str().unwrap(), file.to_str().unwrap());
    for (scheme, options, field, hint) in [
        ("fs", &[("root", missing)][..], "origin.options.root", "No such file"),
        ("fs", &[("root", file)], "origin.options.root", "no directory"),
        ("fs", &[("root", "${RINGWAY_TEST_NONE}")], "origin.options.root", "no RINGWAY_TEST_NONE"),
        ("http", &[("endpoint", "http://2852039166")], "origin.options.endpoint", "link-local"),
        ("ftp", &[], "origin.scheme", "there are fs, http, memory"),
    ] {
        let why = Opendal::new(&settings(scheme, "{key}", options), MOST).err().expect(hint);
        assert!(why.starts_with(field) && why.contains(hint), "{why}");
    }
    assert!(fs::metadata(missing).is_err(), "a directory that is missing is not made");
    if cfg!(not(feature = "redis")) {
        let why = Opendal::new(&settings("redis", "{key}", &[]), MOST).err().expect("refused");
        assert!(why.contains("`--features redis`; it has fs, http, memory"), "{why}");
    }
}

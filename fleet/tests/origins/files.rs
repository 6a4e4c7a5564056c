//! An origin of kind `opendal` that is a directory.

use std::{fs, os::unix::fs::symlink};

use fleet::{
    cluster::{Cluster, Extras, Plan},
    http,
};
use tempfile::TempDir;

use crate::{
    api::{assert_error, query},
    asking::{HOSTILE, once_for_all},
};

async fn cluster(dir: &TempDir) -> Cluster {
    let root = dir.path().join("root");
    let config = format!(
        "[groups.files]\nmax_value = \"1KiB\"\nnegative_ttl = \"0s\"\n\
         origin = {{ kind = \"opendal\", scheme = \"fs\", path = \"{{key}}\", \
         options = {{ root = \"{}\" }} }}\n",
        root.display()
    );
    let node = Extras::default().config(config);
    Cluster::start(Plan { node, gateway: Extras::patient(), ..Plan::default() }).await.unwrap()
}

#[tokio::test]
async fn a_directory_is_read_and_nothing_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("deep")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("Tom"), "630").unwrap();
    fs::write(root.join("deep/Sam"), "567").unwrap();
    fs::write(root.join("large"), vec![b'x'; 1025]).unwrap();
    symlink(dir.path().join("secret"), root.join("link")).unwrap();
    let cluster = cluster(&dir).await;
    let gateway = cluster.gateway(0).address();
    let get = async |key: &str| http::get(gateway, &query("files", key)).await.unwrap();

    for (key, value) in [("Tom", "630"), ("deep/Sam", "567")] {
        let first = get(key).await;
        assert_eq!((first.status, first.text().as_str()), (200, value), "{key}");
        assert_eq!(first.header("cache-status"), Some("ringway; fwd=miss; stored"), "{key}");
        assert_eq!(get(key).await.header("cache-status"), Some("ringway; hit"), "{key}");
    }
    for key in ["Jack", "deep", "%2e%2e%2fsecret"] {
        assert_error(key, &get(key).await, 404, "not_found");
    }
    for key in HOSTILE.into_iter().chain(["../secret", "deep/../../secret"]) {
        let answer = get(key).await;
        assert!(matches!(answer.status, 400 | 404), "{key:?}: {}", answer.status);
    }
    assert_error("a link out", &get("link").await, 502, "origin_error");
    assert_error("too large", &get("large").await, 502, "origin_error");

    fs::write(root.join("new"), "1").unwrap();
    once_for_all(&cluster, "files", "new", "1").await;
    fs::remove_dir_all(&root).unwrap();
    assert_error("gone", &get("other").await, 404, "not_found");
    assert_eq!(get("Tom").await.text(), "630", "what is held needs no directory");
}

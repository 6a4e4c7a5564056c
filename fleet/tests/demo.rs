//! `make demo` as whoever types it meets it: it shows what it promises, and its lines can be pasted.

#![allow(clippy::unwrap_used)]

use std::{process::Command, time::Duration};

use fleet::process::{Process, Signal, Spec, binary};

/// The whole demo; it promises less than a minute, most of it for whoever builds it first.
const ENDS_WITHIN: Duration = Duration::from_secs(50);

fn demo(args: &[&str], dir: &tempfile::TempDir) -> Process {
    let spec = Spec::new("demo", binary("demo").unwrap()).args(args);
    Process::start(&spec, dir.path()).unwrap()
}

#[tokio::test]
async fn it_shows_that_an_origin_is_asked_once_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo(&[], &dir);
    let status = demo.wait(ENDS_WITHIN).await.unwrap();
    let lines = demo.lines().join("\n");
    assert!(status.success(), "{lines}");
    for part in ["SQLite was asked once", "the server was asked once"] {
        assert_eq!(lines.matches(part).count(), 1, "{part}: {lines}");
    }
    for (call, source) in [("first call", "fwd=miss; stored"), ("second call", "hit")] {
        let calls: Vec<_> = lines.lines().filter(|line| line.contains(call)).collect();
        assert_eq!(calls.len(), 2, "{lines}");
        assert!(calls.iter().all(|line| line.ends_with(&format!("ringway; {source}"))), "{lines}");
    }
}

#[tokio::test]
async fn what_it_prints_can_be_pasted_while_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo(&["--stay"], &dir);
    demo.wait_for_line("the end", ENDS_WITHIN, |line| line == "Ctrl-C ends it.").await.unwrap();
    let lines = demo.lines();
    let commands: Vec<_> =
        lines.iter().map(|it| it.trim()).filter(|it| it.starts_with("curl")).collect();
    assert_eq!(commands.len(), 4, "{lines:?}");
    for command in commands {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{command}: {text}");
        assert!(text.contains("cache-status: ringway; hit"), "{command}: {text}");
    }
    demo.signal(Signal::INT).unwrap();
    assert!(demo.wait(ENDS_WITHIN).await.unwrap().success());
}

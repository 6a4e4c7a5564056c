//! The program `checker`: its verdict, its exit code, and what a long history costs it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use fleet::{
    eventually,
    history::{FaultKind, GroupKind, History},
    memory::peak,
    process::{Process, Spec, binary},
};
use tempfile::tempdir;

fn check(files: &[&Path]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } =
        Command::new(binary("checker").unwrap()).args(files).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn the_exit_code_and_the_words_say_what_was_found() {
    let dir = tempdir().unwrap();
    let [right, wrong, no_history] = ["right", "wrong", "none"].map(|name| dir.path().join(name));
    for (path, read) in [(&right, 0), (&wrong, 1)] {
        let history = History::create(path, "row 5").unwrap();
        history.group("default", GroupKind::CacheAvailable);
        history.preloaded("default", "k", "k:0");
        let fault = history.fault(FaultKind::Disturbance, &[], "node-1 killed");
        history.healed(fault);
        history.finish().unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "g default k - 9000000 +10 +500 ={read} 127.0.0.1:80").unwrap();
    }
    fs::write(&no_history, "hello\n").unwrap();

    let (code, told) = check(&[&right]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("row 5: as promised\n  2 operations; 1 values read"), "{told}");
    let (code, told) = check(&[&right, &wrong]);
    assert_eq!(code, Some(1));
    assert!(told.contains("row 5: NOT as promised\n") && told.contains("found 1, never written"));
    let (code, told) = check(&[&no_history]);
    assert_eq!(code, Some(1));
    assert!(told.contains("can't be judged: no history of version 1"), "{told}");
}

/// What the module's documentation says of the longest histories.
const OPERATIONS: u64 = 5_000_000;
const WITHIN: Duration = Duration::from_secs(60);
const MOST: u64 = 512 << 20;

#[tokio::test]
#[ignore = "long: make faults"]
async fn five_million_operations_are_judged_in_bounded_time_and_memory() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("history");
    write_long_history(&path);
    let start = Instant::now();
    let spec = Spec::new("checker", binary("checker").unwrap()).arg(&path);
    let checker = Process::start(&spec, dir.path()).unwrap();
    let mut most = 0;
    eventually("the verdict", WITHIN, async || {
        most = most.max(peak(checker.id()).unwrap_or(0));
        checker.ended()
    })
    .await;
    let took = start.elapsed();
    let size = fs::metadata(&path).unwrap().len() >> 20;
    eprintln!("checker: {OPERATIONS} operations, {size} MiB, {took:.1?}, {} MiB", most >> 20);
    assert!(checker.ended().unwrap().success(), "{:?}", checker.lines());
    assert!(took <= WITHIN && most <= MOST, "{took:?}, {most} bytes");
}

/// An hour and a half at 1,000 operations a second on 1,000 keys, a third of them writes, with a
/// fault every 20 s.
fn write_long_history(path: &Path) {
    let mut file = BufWriter::new(fs::File::create(path).unwrap());
    writeln!(file, "ringway-history 1 unix=1 five million").unwrap();
    writeln!(file, "G default cache,1,available").unwrap();
    for n in 0..OPERATIONS {
        let (due, key) = (n * 1_000, (n / 3) % 1_000);
        if n % 20_000 == 0 {
            let fault = n / 20_000;
            writeln!(file, "F {due} {fault} disturbance - fault {fault}").unwrap();
            writeln!(file, "H {} {fault}", due + 5_000_000).unwrap();
        }
        match n % 3 {
            0 => writeln!(file, "s default written-{key} {n} {due} +40 +800 ok 127.0.0.1:18231"),
            after => {
                let written = n - after;
                writeln!(
                    file,
                    "g default written-{key} - {due} +40 +800 ={written} 127.0.0.1:18231"
                )
            }
        }
        .unwrap();
    }
}

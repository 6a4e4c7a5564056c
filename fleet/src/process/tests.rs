//! A child is started, heard, signalled and cleaned up.

use std::{fs, os::unix::process::ExitStatusExt};

use rustix::process::test_kill_process;

use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Shell {
    dir: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn run(&self, script: &str) -> Process {
        Process::start(&Spec::new("child", "/bin/sh").arg("-c").arg(script), self.dir.path())
            .unwrap()
    }
}

fn is_alive(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_ok()
}

#[tokio::test]
async fn hears_both_outputs_in_order_and_logs_them() {
    let shell = Shell::new();
    let child = shell.run("echo one; echo two >&2; echo three");
    assert!(child.wait(SOON).await.unwrap().success());
    assert_eq!(child.lines(), ["one", "two", "three"]);
    assert_eq!(fs::read_to_string(child.log()).unwrap(), "one\ntwo\nthree\n");
}

#[tokio::test]
async fn waits_for_a_line_that_is_still_to_come() {
    let shell = Shell::new();
    let child = shell.run("trap 'echo caught; exit 3' TERM; echo ready; while :; do :; done");
    child.wait_for_line("ready", SOON, |line| line == "ready").await.unwrap();
    child.signal(Signal::TERM).unwrap();
    child.wait_for_line("caught", SOON, |line| line == "caught").await.unwrap();
    assert_eq!(child.wait(SOON).await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_stopped_child_does_not_run_until_continued() {
    let shell = Shell::new();
    let child = shell.run("echo ready; exec sleep 600");
    child.wait_for_line("ready", SOON, |line| line == "ready").await.unwrap();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).unwrap()
    };
    child.signal(Signal::STOP).unwrap();
    crate::eventually("the child stands still", SOON, async || state() == 'T').await;
    child.signal(Signal::CONT).unwrap();
    crate::eventually("the child runs on", SOON, async || state() != 'T').await;
    child.signal(Signal::KILL).unwrap();
    assert_eq!(child.wait(SOON).await.unwrap().signal(), Some(9));
}

#[tokio::test]
async fn one_that_ends_early_says_what_it_printed() {
    let shell = Shell::new();
    let child = shell.run("echo no such flag; exit 2");
    let error = child.wait_for_line("ready", SOON, |line| line == "ready").await.unwrap_err();
    assert!(matches!(error, ProcessError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no such flag"), "{error}");
    child.wait(SOON).await.unwrap();
    assert!(matches!(child.signal(Signal::TERM), Err(ProcessError::Ended { .. })));
}

#[tokio::test]
async fn waiting_has_an_end() {
    let shell = Shell::new();
    let child = shell.run("exec sleep 600");
    let short = Duration::from_millis(20);
    assert!(matches!(child.wait(short).await, Err(ProcessError::Late { .. })));
    let error = child.wait_for_line("ready", short, |_| true).await.unwrap_err();
    assert!(error.to_string().contains("no line with ready within 20ms"), "{error}");
}

#[tokio::test]
async fn dropping_kills() {
    let shell = Shell::new();
    let child = shell.run("exec sleep 600");
    let pid = child.id();
    assert!(is_alive(pid));
    drop(child);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let shell = Shell::new();
    let error = Process::start(&Spec::new("x", "/no/such/program"), shell.dir.path()).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn a_developers_settings_are_not_handed_down() {
    let inherited = ["RINGWAY_CONFIG", "RINGWAY_GIVEN", "ETCD_NAME", "HOME"].map(OsString::from);
    let command = Spec::new("x", "/bin/sh").env("RINGWAY_GIVEN", "1").command(inherited);
    let changed: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_str().unwrap(), value.map(|value| value.to_str().unwrap())))
        .collect();
    assert_eq!(
        changed,
        [("ETCD_NAME", None), ("RINGWAY_CONFIG", None), ("RINGWAY_GIVEN", Some("1"))]
    );
}

//! Packets vanish and come back, and nothing stays behind. The parts that need root run in
//! `make faults`.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::*;
use crate::{
    eventually,
    process::{Process, Signal, binary},
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn only_namespaces_of_ended_harnesses_are_stale() {
    let list = "ringway-7-0-node-1 (id: 3)\nringway-8-0-a\nringway-x-0-a\nother-7-0-a\nringway-7";
    assert_eq!(stale(list, |pid| pid == 8), ["ringway-7-0-node-1", "ringway-7"]);
}

#[test]
fn a_namespace_with_other_links_than_ours_leads_out() {
    let ours = "1: lo: <LOOPBACK,UP> mtu 65536\n3: rw0v1@if2: <BROADCAST> mtu 1500";
    assert!(!leads_out(ours));
    assert!(leads_out(&format!("{ours}\n2: eth0@if9: <BROADCAST> mtu 1500")));
}

#[test]
fn what_is_missing_is_told_with_the_command() {
    let error = NetnsError::NotAllowed("this is not root").to_string();
    assert!(error.contains("not root") && error.contains("`sudo make faults`"), "{error}");
    let error = run("ip", ["no-such-object"].into_iter()).unwrap_err().to_string();
    assert!(error.starts_with("`ip no-such-object`: "), "{error}");
    let error = run("no-such-program", [].into_iter()).unwrap_err().to_string();
    assert!(error.contains("apt-get install iproute2"), "{error}");
}

/// A server that listens in a namespace: a gateway, which does so without an etcd as well.
async fn listening(at: &Namespace, logs: &Path) -> (Process, SocketAddr) {
    let address = SocketAddr::from((at.address(), 8080));
    let spec = Spec::new("server", binary("apiserver").unwrap())
        .args(["--api-host", &address.ip().to_string(), "--insecure"])
        .args(["--api-port", "8080", "--etcd-endpoints", "127.0.0.1:1"]);
    let server = Process::start(&at.enter(&spec), logs).unwrap();
    server.wait_for_line("listens", SOON, |line| line.contains("listens")).await.unwrap();
    (server, address)
}

/// Whether a program in that namespace can connect.
async fn reaches(from: &Namespace, to: SocketAddr, logs: &Path) -> bool {
    let script = format!("exec 3<>/dev/tcp/{}/{}", to.ip(), to.port());
    let spec = Spec::new("caller", "timeout").args(["1", "bash", "-c", &script]);
    let caller = Process::start(&from.enter(&spec), logs).unwrap();
    caller.wait(SOON).await.unwrap().success()
}

#[tokio::test]
#[ignore = "needs root: make faults"]
async fn packets_are_dropped_between_two_members_only_and_nothing_stays() {
    let logs = tempfile::tempdir().unwrap();
    let mut network = Network::new().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| network.join(name).unwrap());
    let (server, address) = listening(&a, logs.path()).await;
    assert!(TcpStream::connect(address).await.is_ok(), "the harness reaches its members");
    assert!(reaches(&b, address, logs.path()).await);

    network.drop_between(&a, &b).unwrap();
    assert!(!reaches(&b, address, logs.path()).await);
    assert!(reaches(&c, address, logs.path()).await);
    network.heal().unwrap();
    assert!(reaches(&b, address, logs.path()).await);

    // The process is the program itself.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", server.id())).unwrap();
    assert!(name.starts_with("apiserver"), "{name}");
    server.signal(Signal::STOP).unwrap();
    let state = || -> io::Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id()))?;
        Ok(stat.contains(") T "))
    };
    eventually("the program stands still", SOON, async || state().unwrap()).await;

    drop(server);
    drop(network);
    let left = run("ip", ["netns", "list"].into_iter()).unwrap();
    assert!(!left.contains(&format!("ringway-{}-", process::id())), "{left}");
}

#[test]
#[ignore = "needs root: make faults"]
fn what_a_killed_harness_left_is_swept() {
    allowed().unwrap();
    // Above the largest pid that Linux gives.
    let name = "ringway-4194305-0-left";
    run("ip", ["netns", "add", name].into_iter()).unwrap();
    let _network = Network::new().unwrap();
    assert!(!run("ip", ["netns", "list"].into_iter()).unwrap().contains(name));
}

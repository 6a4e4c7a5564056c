//! Every rule does what it says, to whom it says, and healing brings everything back.

use std::{process::Stdio, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::*;
use crate::{etcd::free_address, eventually};

const SOON: Duration = Duration::from_secs(5);
/// Long enough for a byte to pass that may.
const A_WHILE: Duration = Duration::from_millis(150);

/// A server that sends everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut source, mut sink) = stream.split();
                let _ = tokio::io::copy(&mut source, &mut sink).await;
                let _ = sink.shutdown().await;
            });
        }
    });
    address
}

async fn before_echo() -> Proxy {
    let listen = free_address().unwrap();
    Proxy::start(listen, echo().await).unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends a word and reads it back.
async fn says(stream: &mut TcpStream, word: &str) -> io::Result<()> {
    stream.write_all(word.as_bytes()).await?;
    hears(stream, word).await
}

async fn hears(stream: &mut TcpStream, word: &str) -> io::Result<()> {
    let mut heard = vec![0; word.len()];
    timeout(SOON, stream.read_exact(&mut heard)).await.map_err(io::Error::other)??;
    assert_eq!(heard, word.as_bytes());
    Ok(())
}

async fn silent(stream: &mut TcpStream) -> bool {
    timeout(A_WHILE, stream.read_u8()).await.is_err()
}

/// Whether a connection is not let in, or reset at once.
async fn refused(proxy: &Proxy) -> bool {
    let Ok(mut stream) = TcpStream::connect(proxy.address()).await else { return true };
    says(&mut stream, "?").await.is_err()
}

#[tokio::test]
async fn passes_bytes_both_ways_and_the_end_of_each() {
    let proxy = before_echo().await;
    let mut client = connect(&proxy).await;
    says(&mut client, "hello").await.unwrap();
    // More than a direction holds, so that both sides must go on.
    let much: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut source, mut sink) = client.split();
    let sending = async {
        sink.write_all(&much).await?;
        sink.shutdown().await
    };
    let mut back = Vec::new();
    let (sent, read) = tokio::join!(sending, source.read_to_end(&mut back));
    sent.unwrap();
    assert_eq!(read.unwrap(), much.len());
    assert!(back == much);
    let traffic = proxy.traffic();
    assert_eq!((traffic.to_target, traffic.to_client), (3_000_005, 3_000_005));
    eventually("the connection is closed", SOON, async || proxy.traffic().open == 0).await;
}

#[tokio::test]
async fn a_target_that_is_not_there_resets() {
    let nobody = free_address().unwrap();
    let proxy = Proxy::start("127.0.0.1:0".parse().unwrap(), nobody).unwrap();
    assert!(refused(&proxy).await);
}

#[tokio::test]
async fn delays_each_direction_and_catches_up_when_healed() {
    let proxy = before_echo().await;
    let mut client = connect(&proxy).await;
    let (to_target, to_client) = (Duration::from_millis(120), Duration::from_millis(60));
    proxy.set(Rule::Delay { to_target, to_client });
    let start = Instant::now();
    says(&mut client, "late").await.unwrap();
    assert!(start.elapsed() >= to_target + to_client, "{:?}", start.elapsed());

    proxy.set(Rule::Delay { to_target: SOON * 100, to_client: Duration::ZERO });
    client.write_all(b"held").await.unwrap();
    assert!(silent(&mut client).await);
    proxy.heal();
    hears(&mut client, "held").await.unwrap();
}

#[tokio::test]
async fn a_cut_resets_and_refuses_until_healed() {
    let proxy = before_echo().await;
    let mut client = connect(&proxy).await;
    says(&mut client, "hello").await.unwrap();
    proxy.set(Rule::Cut);
    let error = timeout(SOON, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    eventually("nobody listens", SOON, async || {
        let tried = TcpStream::connect(proxy.address()).await;
        tried.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
    .await;
    assert_eq!(proxy.traffic().broken, 1);
    proxy.heal();
    eventually("it listens again", SOON, async || {
        let mut client = TcpStream::connect(proxy.address()).await?;
        says(&mut client, "again").await
    })
    .await;
}

#[tokio::test]
async fn a_blackhole_swallows_and_gives_back_in_order() {
    let proxy = before_echo().await;
    let mut old = connect(&proxy).await;
    says(&mut old, "before").await.unwrap();
    proxy.set(Rule::Blackhole);
    eventually("it is held", SOON, async || proxy.traffic().held == 1).await;
    old.write_all(b"one").await.unwrap();
    let mut new = connect(&proxy).await;
    new.write_all(b"new").await.unwrap();
    assert!(silent(&mut old).await && silent(&mut new).await);
    old.write_all(b"two").await.unwrap();
    assert_eq!(proxy.traffic().to_target, 6);
    proxy.heal();
    hears(&mut old, "onetwo").await.unwrap();
    hears(&mut new, "new").await.unwrap();
    assert_eq!(proxy.traffic().held, 0);
}

#[tokio::test]
async fn the_end_of_a_held_stream_is_held_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy =
        Proxy::start("127.0.0.1:0".parse().unwrap(), listener.local_addr().unwrap()).unwrap();
    let mut client = connect(&proxy).await;
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    hears(&mut server, "x").await.unwrap();
    proxy.set(Rule::Blackhole);
    eventually("it is held", SOON, async || proxy.traffic().held == 1).await;
    drop(client);
    assert!(silent(&mut server).await);
    proxy.heal();
    assert_eq!(timeout(SOON, server.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn drops_hit_their_share_of_the_new_and_of_the_existing() {
    let proxy = before_echo().await;
    proxy.set(Rule::Drop(Drops { new: 0.5, existing: 0.0, seed: 1 }));
    let (mut hit, mut open) = (Vec::new(), Vec::new());
    for n in 1..=40 {
        // A reset can be so quick that connecting fails.
        let tried = async {
            let mut client = TcpStream::connect(proxy.address()).await?;
            says(&mut client, "?").await.map(|()| client)
        };
        match tried.await {
            Ok(client) => open.push(client),
            Err(_) => hit.push(n),
        }
    }
    let drops = Drops { new: 0.5, existing: 0.0, seed: 1 };
    let wanted: Vec<u64> = (1..=40).filter(|&n| drops.hits_new(n)).collect();
    assert_eq!(hit, wanted);
    assert_eq!(proxy.traffic().refused, wanted.len() as u64);
    // Twenty a second each, one in the first throw or two.
    proxy.set(Rule::Drop(Drops { new: 0.0, existing: 20.0, seed: 1 }));
    for client in &mut open {
        assert!(timeout(SOON, client.read_u8()).await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_rule_for_one_process_leaves_the_others_alone() {
    let proxy = before_echo().await;
    // Another process that connects, and prints what it hears.
    let port = proxy.address().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; while read -r word; do echo $word >&3; \
         read -r back <&3 || exit 3; echo $back; done"
    );
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut to_child, mut of_child) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut heard = [0; 4];
    to_child.write_all(b"one\n").await.unwrap();
    timeout(SOON, of_child.read_exact(&mut heard)).await.unwrap().unwrap();

    let mut own = connect(&proxy).await;
    proxy.set_for(child.id().unwrap(), Rule::Blackhole);
    eventually("the child's connection is held", SOON, async || proxy.traffic().held == 1).await;
    says(&mut own, "we are not").await.unwrap();
    to_child.write_all(b"two\n").await.unwrap();
    assert!(timeout(A_WHILE, of_child.read_exact(&mut heard)).await.is_err());
    proxy.heal();
    timeout(SOON, of_child.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"two\n");

    proxy.set_for(std::process::id(), Rule::Cut);
    assert!(timeout(SOON, own.read_u8()).await.unwrap().is_err(), "ours is reset");
    assert!(refused(&proxy).await, "a new one of ours as well");
    to_child.write_all(b"six\n").await.unwrap();
    timeout(SOON, of_child.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"six\n");
}

#[tokio::test]
async fn dropping_closes_the_port_and_the_connections() {
    let proxy = before_echo().await;
    let mut client = connect(&proxy).await;
    says(&mut client, "hello").await.unwrap();
    let address = proxy.address();
    drop(proxy);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!matches!(timeout(SOON, client.read_u8()).await, Ok(Ok(_)) | Err(_)));
}

#[test]
fn a_taken_address_is_an_error() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(Proxy::start(address, address).is_err());
}

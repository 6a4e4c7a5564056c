//! The accept loop without file descriptors. A process of its own, because it spends them all.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use common::{
    lifecycle::Stop,
    serve::{Limits, Listener, ServeMetrics, Target, serve},
    worker::Workers,
};
use rustix::process::{Resource, getrlimit, setrlimit};

/// How long the descriptors stay spent: an accept loop that spins fails thousands of times in it.
const SPENT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn without_descriptors_it_waits_and_then_goes_on() {
    let workers = Workers::start("test", 1).unwrap();
    let app = Router::new().route("/", get(|| async { "hello" }));
    let target = Target::new(workers.handles()[0].clone(), app);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let (address, metrics) = (listener.local_addr(), ServeMetrics::unregistered());
    tokio::spawn(serve(
        listener,
        vec![target],
        Limits::default(),
        Arc::clone(&metrics),
        Stop::new(),
    ));

    let before = getrlimit(Resource::Nofile);
    let mut client = TcpStream::connect(address).unwrap(); // not accepted: nothing has run yet
    let mut lowered = before;
    lowered.current = Some(3); // those that are open stay open
    setrlimit(Resource::Nofile, lowered).unwrap();
    let spent = Instant::now();
    tokio::time::sleep(SPENT).await;
    let errors = metrics.accept_errors.get();
    setrlimit(Resource::Nofile, before).unwrap();
    let most = spent.elapsed().as_millis() / 100 + 1; // one pause is 100 ms
    assert!(errors >= 2 && u128::from(errors) <= most, "{errors} errors, at most {most} expected");

    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().ends_with("hello"));
}

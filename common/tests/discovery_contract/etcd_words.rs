//! What is said when that which answers is not an etcd, or answers nothing at all.

use std::{sync::Arc, time::Duration};

use common::discovery::{Discovery, EtcdOptions, RegistrationState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    backend::*,
    etcd::{SERVICE, start, until_told},
};

/// A process that looks for etcd there.
fn looking_at(endpoint: String) -> Arc<dyn Discovery> {
    let options = EtcdOptions {
        endpoints: vec![endpoint],
        service: SERVICE.into(),
        lease_ttl: SHORT,
        connect_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_millis(500),
        ..EtcdOptions::default()
    };
    start(options, &Answering::default())
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A server that says the same to everybody.
async fn saying(bytes: &'static [u8]) -> String {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 24];
            let _ = stream.read(&mut heard).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address
}

#[tokio::test]
async fn a_server_of_another_kind_is_recognised() {
    let (http, address) = listener().await;
    tokio::spawn(async move { axum::serve(http, axum::Router::new()).await.unwrap() });
    let http1 = saying(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    let ssh = saying(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    for address in [address, http1, ssh] {
        let problem = until_told(&*looking_at(address.clone()), "not an etcd").await;
        assert!(problem.contains(&address), "{problem}");
        until_told(&*looking_at(format!("https://{address}")), "use http://").await;
    }
    // An alert, as a server says it that expects TLS.
    let tls = saying(b"\x15\x03\x01\x00\x02\x02\x16").await;
    until_told(&*looking_at(tls), "https://").await;
}

#[tokio::test]
async fn what_got_no_answer_is_named() {
    let (_silent, address) = listener().await;
    let plain = looking_at(address.clone());
    let registration = plain.register(node(A));
    until_told(&*plain, "did not answer a read within 500ms").await;
    let named = |state: &RegistrationState| matches!(state, RegistrationState::Trying { problem: Some(p) } if p.contains("did not answer a transaction"));
    until(registration.state(), named).await;
    until_told(&*looking_at(format!("https://{address}")), "can't be reached within 500ms").await;
}

//! A TCP proxy that can be shut or stalled: a process cut from a service that is well.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Open,
    Shut,
    Stalled,
}

/// Passes connections on while it is open.
pub(crate) struct Gate {
    mode: Arc<watch::Sender<Mode>>,
    pub(crate) address: String,
}

impl Gate {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        tokio::spawn(accept(listener, target, Arc::clone(&mode)));
        Self { mode, address }
    }

    /// Cuts connections, also those to come.
    pub(crate) fn shut(&self) {
        self.mode.send_replace(Mode::Shut);
    }

    /// Leaves connections as they are but lets nothing through; they are cut when it opens.
    pub(crate) fn stall(&self) {
        self.mode.send_replace(Mode::Stalled);
    }

    pub(crate) fn open(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: Arc<watch::Sender<Mode>>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(pass(near, target, mode.subscribe()));
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() == Mode::Open {
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = mode.wait_for(|mode| *mode != Mode::Open) => {}
        }
        return stalled(mode).await; // with both ends still open
    }
    stalled(mode).await;
}

async fn stalled(mut mode: watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode != Mode::Stalled).await;
}

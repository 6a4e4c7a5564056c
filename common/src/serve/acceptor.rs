//! The accept loop: takes sockets, counts them, hands each to the least loaded target.
//!
//! One task on one runtime, so the cap and the spreading need no locks. It never spins: an accept
//! that fails for want of resources is tried again after a pause.

use std::{
    io,
    net::{SocketAddr, TcpStream as StdStream},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    App, Limits, Listener, ServeMetrics, Target,
    connection::{self, Terms},
    listener::BACKLOG,
    metrics::Load,
};
use crate::lifecycle::Stop;

/// The pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after the hard stop the workers may take to drop their connections.
const HARD_STOP_GRACE: Duration = Duration::from_secs(1);

/// A target and how many connections it has.
struct Seat<A> {
    runtime: Handle,
    app: A,
    peer_info: bool,
    load: Load,
}

pub(super) struct Acceptor<A> {
    seats: Vec<Seat<A>>,
    /// Where the search for the least loaded seat starts, so that ties go round.
    turn: usize,
    terms: Arc<Terms>,
    open: TaskTracker,
    failing: bool,
}

impl<A: App> Acceptor<A> {
    pub(super) fn new(
        targets: Vec<Target<A>>,
        limits: Limits,
        metrics: Arc<ServeMetrics>,
        stop: Stop,
    ) -> Self {
        let seat = |(index, target): (usize, Target<A>)| Seat {
            runtime: target.runtime,
            app: target.app.for_worker(),
            peer_info: target.peer_info,
            load: Load::new(&metrics, index),
        };
        Self {
            seats: targets.into_iter().enumerate().map(seat).collect(),
            turn: 0,
            terms: Arc::new(Terms::new(limits, metrics, stop)),
            open: TaskTracker::new(),
            failing: false,
        }
    }

    pub(super) async fn run(mut self, listener: Listener) {
        let stop = self.terms.stop.clone();
        tokio::select! {
            biased;
            () = stop.hard.cancelled() => {}
            () = stop.soft.cancelled() => {}
            () = self.accept_forever(&listener.socket) => {}
        }
        if !stop.hard.is_cancelled() {
            self.accept_the_queue(listener);
        }
        self.open.close();
        tokio::select! {
            biased;
            () = self.open.wait() => return,
            () = stop.hard.cancelled() => {}
        }
        if timeout(HARD_STOP_GRACE, self.open.wait()).await.is_err() {
            tracing::warn!(open = self.open.len(), "connections are left on a stuck worker");
        }
    }

    async fn accept_forever(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept().await.and_then(into_std) {
                Ok((stream, peer)) => {
                    self.failing = false;
                    self.admit(stream, peer);
                }
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// Takes what had connected before we stopped: closing the listener would reset it.
    fn accept_the_queue(&mut self, listener: Listener) {
        let Ok(listener) = listener.socket.into_std() else { return };
        for _ in 0..BACKLOG {
            let Ok((stream, peer)) = listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok() {
                self.admit(stream, peer);
            }
        }
    }

    async fn failed(&mut self, error: io::Error) {
        self.terms.metrics.accept_errors.inc();
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        ) {
            return; // the peer's doing, and the next one may be waiting
        }
        if !self.failing {
            tracing::warn!(%error, "cannot accept connections, trying again every {ACCEPT_PAUSE:?}");
            self.failing = true;
        }
        sleep(ACCEPT_PAUSE).await;
    }

    fn admit(&mut self, stream: StdStream, peer: SocketAddr) {
        let metrics = &self.terms.metrics;
        metrics.accepted.inc();
        let full = self.open.len() >= self.terms.limits.max_connections;
        let Some(seat) = self.least_loaded().filter(|_| !full) else {
            self.terms.metrics.refused_over_cap.inc();
            // A reset: no state is left behind on our side for a client we have no room for.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        };
        let seat = &self.seats[seat];
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(self.terms.limits.stalled_reader));

        let entered = (seat.load.enter(), self.open.token());
        let (app, terms) = (seat.app.clone(), Arc::clone(&self.terms));
        let peer = seat.peer_info.then_some(peer);
        // On a runtime that has ended the task is dropped at once, and the guards with it.
        seat.runtime.spawn(async move {
            let _entered = entered;
            connection::serve(stream, peer, app, terms).await;
        });
    }

    fn least_loaded(&mut self) -> Option<usize> {
        let count = self.seats.len();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        (0..count)
            .map(|step| turn.wrapping_add(step) % count)
            .min_by_key(|&seat| self.seats[seat].load.get())
    }
}

/// Takes the socket off this runtime's reactor, for that of its target.
fn into_std((stream, peer): (TcpStream, SocketAddr)) -> io::Result<(StdStream, SocketAddr)> {
    Ok((stream.into_std()?, peer))
}

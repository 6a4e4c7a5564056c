//! One connection, from its socket to its end.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpStream as StdStream},
    pin::{Pin, pin},
    sync::Arc,
};

use http::{Request, Version};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{net::TcpStream, task::yield_now, time::Instant};
use tonic::transport::server::TcpConnectInfo;

use super::{
    App, Limits, ServeMetrics,
    activity::{Activity, BusyBody, NotedIo},
    rarely::Rarely,
    watchdog::{Verdict, watch},
};
use crate::lifecycle::Stop;

/// Fewer bytes than this, written while a connection is asked to finish, are pings and the like:
/// no reason to wait longer for it.
const PROGRESS_BYTES: u64 = 1024;

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) limits: Limits,
    pub(super) metrics: Arc<ServeMetrics>,
    pub(super) stop: Stop,
    builder: auto::Builder<TokioExecutor>,
}

impl Terms {
    pub(super) fn new(limits: Limits, metrics: Arc<ServeMetrics>, stop: Stop) -> Self {
        let builder = builder(&limits);
        Self { limits, metrics, stop, builder }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper's own head timer would cut idle connections too, and misses silent ones.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// Serves one connection to its end, on the runtime it is to live on.
pub(super) async fn serve(
    stream: StdStream,
    peer: Option<SocketAddr>,
    app: impl App,
    terms: Arc<Terms>,
) {
    let activity = Activity::new();
    let (stream, info) = match adopt(stream, peer) {
        Ok(adopted) => adopted,
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it could be served");
            return;
        }
    };
    let io = TokioIo::new(NotedIo::new(stream, Arc::clone(&activity)));
    let service = service_fn(|mut request: Request<Incoming>| {
        let version = request.version();
        let busy = activity.begin(version);
        if let Some(info) = &info {
            request.extensions_mut().insert(info.clone());
        }
        let takes_turns = version == Version::HTTP_2 && request.body().is_end_stream();
        let response = app.clone().call(request);
        async move {
            let response = {
                let _turn = if takes_turns { busy.turn().await } else { None };
                response.await
            };
            Ok::<_, Infallible>(response.map(|body| BusyBody::new(body, version, busy)))
        }
    });
    let connection = pin!(terms.builder.serve_connection(io, service));
    drive(connection, &activity, &terms).await;
}

/// Registers the socket with this runtime.
fn adopt(
    stream: StdStream,
    peer: Option<SocketAddr>,
) -> io::Result<(TcpStream, Option<TcpConnectInfo>)> {
    let stream = TcpStream::from_std(stream)?;
    let info = peer.map(|peer| TcpConnectInfo {
        local_addr: stream.local_addr().ok(),
        remote_addr: Some(peer),
    });
    Ok((stream, info))
}

/// What happens to a connection from outside.
enum Event {
    /// It ended by itself.
    Ended,
    /// The process wants it gone, now.
    HardStop,
    /// The process wants it to finish.
    SoftStop,
    /// The watchdog has had enough.
    Late(Verdict),
}

/// Polls a connection until it ends or has to be dropped.
async fn drive<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    terms: &Terms,
) where
    C::Error: std::fmt::Display,
{
    let metrics = &terms.metrics;
    let stopped_softly = match race(connection.as_mut(), pin!(first_event(activity, terms))).await {
        Event::HardStop => return,
        Event::Ended => {
            if activity.flooded() {
                metrics.closed_flood.inc();
            }
            return;
        }
        Event::Late(Verdict::Idle) => {
            metrics.closed(Verdict::Idle).inc();
            false
        }
        Event::Late(verdict) => {
            metrics.closed(verdict).inc();
            return;
        }
        Event::SoftStop => true,
    };
    // HTTP/1 closes when the request at hand is done, at once if none is. HTTP/2 says GOAWAY and
    // ends with its last stream; one that waits for the peer's window is not cut off that way.
    connection.as_mut().graceful_shutdown();
    let last = race(connection.as_mut(), pin!(last_event(activity, terms))).await;
    if stopped_softly && let Event::Late(verdict) = last {
        metrics.closed(verdict).inc();
    }
}

/// The connection's end or the event, whichever comes first.
async fn race<C: GracefulConnection>(
    connection: Pin<&mut C>,
    event: Pin<&mut impl Future<Output = Event>>,
) -> Event
where
    C::Error: std::fmt::Display,
{
    tokio::select! {
        biased;
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended with an error");
            }
            Event::Ended
        }
        event = Rarely::new(event) => event,
    }
}

async fn first_event(activity: &Activity, terms: &Terms) -> Event {
    let finish = async {
        terms.stop.soft.cancelled().await;
        // Two turns of the reactor, so that a request that had arrived by now is seen and
        // answered instead of being cut off as if the connection were idle.
        yield_now().await;
        yield_now().await;
    };
    tokio::select! {
        biased;
        () = terms.stop.hard.cancelled() => Event::HardStop,
        () = finish => Event::SoftStop,
        verdict = watch(activity, &terms.limits, activity.start()) => Event::Late(verdict),
    }
}

/// As [`first_event`], for a connection that was asked to finish.
async fn last_event(activity: &Activity, terms: &Terms) -> Event {
    let late = async {
        loop {
            let written = activity.written();
            let verdict = watch(activity, &terms.limits, Instant::now()).await;
            let moves = activity.written() - written >= PROGRESS_BYTES;
            if verdict != Verdict::Idle || !moves {
                return verdict;
            }
        }
    };
    tokio::select! {
        biased;
        () = terms.stop.hard.cancelled() => Event::HardStop,
        verdict = late => Event::Late(verdict),
    }
}

//! Opening an Exchange stream: connect, say Hello, and hear a Hello back before anything is sent.

use std::{error::Error, io, time::Duration};

use http::uri::PathAndQuery;
use proto::v1;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    IntoStreamingRequest, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use super::{
    Unreachable, frame,
    task::Setup,
    wire::{BatchCodec, Outgoing},
};
use crate::{
    clock::{Clock, SystemClock},
    near,
};

/// Batches handed to the transport ahead of its writing them.
const WRITE_AHEAD: usize = 2;
/// How long connecting and the exchange of Hellos may take together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How often an open connection is asked whether it still lives, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(5);
/// HTTP/2 windows: wide, because a stream carries everything.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// An open stream.
pub(super) struct Open {
    pub(super) outbound: mpsc::Sender<Outgoing>,
    pub(super) inbound: Streaming<v1::Batch>,
    /// What came with the Hello; a node that is leaving may say so at once.
    pub(super) first: v1::Batch,
}

/// Waits until the transport takes another batch. False: it takes no more.
pub(super) async fn writable(outbound: &mpsc::Sender<Outgoing>) -> bool {
    outbound.reserve().await.is_ok()
}

/// Opens a stream, or says why it can't.
pub(super) async fn open(setup: &Setup) -> Result<Open, Unreachable> {
    let at_address = |Unreachable { why, is_refused }: Unreachable| {
        let why = format!("{}: {why}", setup.peer.address);
        Unreachable { why, is_refused }
    };
    let opened = timeout(CONNECT_TIMEOUT, async {
        let channel = connected(setup).await?;
        exchange_hellos(channel, setup).await.map_err(Unreachable::from)
    });
    let late = |_| Err(Unreachable::from(format!("no answer in {CONNECT_TIMEOUT:?}")));
    opened.await.unwrap_or_else(late).map_err(at_address)
}

async fn connected(setup: &Setup) -> Result<Channel, Unreachable> {
    Endpoint::from_shared(format!("http://{}", setup.peer.address))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await
        .map_err(|error| {
            let cause = innermost(&error);
            let io = cause.downcast_ref::<io::Error>();
            let is_refused = io.is_some_and(|it| it.kind() == io::ErrorKind::ConnectionRefused);
            Unreachable { why: cause.to_string(), is_refused }
        })
}

async fn exchange_hellos(channel: Channel, setup: &Setup) -> Result<Open, String> {
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(frame::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(frame::MAX_MESSAGE_BYTES);
    client.ready().await.map_err(|error| innermost(&error).to_string())?;
    let (outbound, batches) = mpsc::channel(WRITE_AHEAD);
    outbound.try_send(opening(setup)).map_err(|error| error.to_string())?;
    let request = ReceiverStream::new(batches).into_streaming_request();
    let mut inbound = client
        .streaming(
            request,
            PathAndQuery::from_static(frame::EXCHANGE),
            BatchCodec::<Outgoing>::default(),
        )
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    let first = inbound.message().await.map_err(|status| status.message().to_owned())?;
    let hello = first.as_ref().and_then(|batch| batch.hello.as_ref());
    frame::check_answer(&setup.identity, &setup.peer, hello).map_err(|error| error.to_string())?;
    Ok(Open { outbound, inbound, first: first.unwrap_or_default() })
}

/// The first batch: who we are, and whom we believe to reach.
fn opening(setup: &Setup) -> Outgoing {
    let features = if setup.holder.is_some() { near::FEATURE } else { 0 };
    let hello = v1::Hello {
        features,
        to_id: setup.peer.id.clone(),
        to_instance: frame::wire_uuid(setup.peer.instance),
        ..frame::hello(&setup.identity, Uuid::new_v4(), setup.lane, None)
    };
    let stamp_us = SystemClock.monotonic().as_micros() as u64;
    Outgoing { hello: Some(hello), epoch: None, stamp_us, ops: Vec::new() }
}

/// tonic says "transport error"; the reason is at the end of the chain.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

impl From<String> for Unreachable {
    fn from(why: String) -> Self {
        Self { why, is_refused: false }
    }
}

//! Row 25: 300 tiny GETs at a time, over one HTTP/2 connection to a gateway and over one stream to a
//! node. 0 GOAWAY: the connection and the stream that were opened at first last to the end.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use common::{
    clock::{Clock, SystemClock},
    link::{Identity, frame},
};
use fleet::{
    cluster::{Cluster, Extras, Plan},
    report::{Counts, Report},
};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::v1::{self, cache_client::CacheClient, op::Kind};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use uuid::Uuid;

/// How many at a time: more than the streams of a connection, so that some always wait.
const AT_A_TIME: u64 = 300;
/// What is asked for: of the demo group, which every node has.
const PATH: &str = "/api/cache/scores/Tom";
const VALUE: &str = "630";
/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The long form.
const LONG: Duration = Duration::from_secs(600);

type Answered = Result<u64, String>;

fn told(what: &str) -> impl Fn(&dyn std::fmt::Debug) -> String {
    move |error| format!("{what}: {error:?}")
}

/// Asks again and again over one connection: how many answers.
async fn by_connection(gateway: SocketAddr, until: Instant) -> Answered {
    let stream = TcpStream::connect(gateway).await.map_err(|e| told("connect")(&e))?;
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io)
        .await
        .map_err(|e| told("handshake")(&e))?;
    let driver = tokio::spawn(connection);
    let asking = (0..AT_A_TIME).map(|_| ask_on(sender.clone(), gateway, until));
    let asking = asking.collect::<JoinSet<_>>();
    let mut answers = 0;
    for answered in asking.join_all().await {
        answers += answered?;
    }
    if driver.is_finished() { Err("the connection has ended".to_owned()) } else { Ok(answers) }
}

async fn ask_on(
    mut sender: SendRequest<Empty<Bytes>>,
    gateway: SocketAddr,
    until: Instant,
) -> Answered {
    let mut answers = 0;
    while answers == 0 || Instant::now() < until {
        sender.ready().await.map_err(|e| told("no more requests")(&e))?;
        let request = Request::get(format!("http://{gateway}{PATH}")).body(Empty::new());
        let response = sender.send_request(request.unwrap());
        let response = timeout(PATIENCE, response).await.map_err(|_| "no answer in time")?;
        let response = response.map_err(|e| told("a request")(&e))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| told("an answer")(&e))?;
        let body = body.to_bytes();
        if status == 200 && body == VALUE {
            answers += 1;
        } else if !(is_overloaded(status.as_u16(), &body) && may_be_refused(until)) {
            return Err(format!("answered {status}"));
        }
    }
    Ok(answers)
}

/// What is refused on a machine that can't do so much is asked again and does not count, until then.
fn may_be_refused(until: Instant) -> bool {
    Instant::now() < until + PATIENCE
}

fn is_overloaded(status: u16, body: &[u8]) -> bool {
    let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    status == 503 && error["error"] == "overloaded"
}

/// A stream to a node, as a gateway opens it.
pub(super) struct Stream {
    batches: mpsc::Sender<v1::Batch>,
    answers: tonic::Streaming<v1::Batch>,
    epoch: Option<v1::Epoch>,
}

impl Stream {
    pub(super) async fn open(node: SocketAddr) -> Result<Self, String> {
        let channel = Endpoint::from_shared(format!("http://{node}")).unwrap().connect().await;
        let channel = channel.map_err(|e| told("connect")(&e))?;
        let identity = Identity {
            service: "ringway".to_owned(),
            role: v1::Role::Gateway,
            id: "asking".to_owned(),
            instance: Uuid::from_u128(1),
        };
        let hello = frame::hello(&identity, Uuid::from_u128(2), v1::Lane::Small, None);
        let hello = v1::Batch { hello: Some(hello), stamp_us: now_us(), ..Default::default() };
        // Room for all that is under way, so that sending never waits.
        let (batches, outbound) = mpsc::channel(2 * AT_A_TIME as usize);
        batches.try_send(hello).map_err(|e| told("the Hello")(&e))?;
        let answers = CacheClient::new(channel).exchange(ReceiverStream::new(outbound)).await;
        let answers = answers.map_err(|e| told("exchange")(&e))?.into_inner();
        let mut stream = Self { batches, answers, epoch: None };
        let first = stream.next().await?.hello.ok_or("no Hello")?;
        stream.epoch = first.epoch;
        Ok(stream)
    }

    /// Asks for the value, in a batch of its own with that stamp.
    pub(super) fn ask(&self, id: u64, stamp_us: u64) -> Result<(), String> {
        let request = v1::Request {
            verb: v1::Verb::Get.into(),
            group: "scores".to_owned(),
            key: "Tom".to_owned(),
            try_ms: PATIENCE.as_millis() as u32,
            budget_ms: PATIENCE.as_millis() as u32,
            ..Default::default()
        };
        let ops = vec![v1::Op { id, kind: Some(Kind::Request(request)) }];
        let batch = v1::Batch { hello: None, epoch: self.epoch.clone(), stamp_us, ops };
        self.batches.try_send(batch).map_err(|e| told("a batch")(&e))
    }

    pub(super) async fn next(&mut self) -> Result<v1::Batch, String> {
        let message = timeout(PATIENCE, self.answers.message()).await;
        let message = message.map_err(|_| "nothing in time")?;
        message.map_err(|e| told("the stream")(&e))?.ok_or_else(|| "the stream ended".to_owned())
    }
}

/// The stamp of a batch that is sent now.
pub(super) fn now_us() -> u64 {
    SystemClock.monotonic().as_micros() as u64
}

/// Asks again and again over one stream: how many answers.
async fn by_stream(node: SocketAddr, until: Instant) -> Answered {
    let mut stream = Stream::open(node).await?;
    for id in 0..AT_A_TIME {
        stream.ask(id, now_us())?;
    }
    let (mut answers, mut under_way) = (0, AT_A_TIME);
    while under_way > 0 {
        for v1::Op { id, kind } in stream.next().await?.ops {
            match kind {
                Some(Kind::Reply(reply)) if reply.value == VALUE => answers += 1,
                // The node stood still for a moment, and answers when it has asked the others.
                Some(Kind::Pending(_)) => continue,
                // It is behind with its work for a moment.
                Some(Kind::Reply(reply))
                    if reply.code() == v1::Code::Overloaded && may_be_refused(until) =>
                {
                    stream.ask(id + AT_A_TIME, now_us())?;
                    continue;
                }
                other => return Err(format!("answered {other:?}")),
            }
            if Instant::now() < until {
                stream.ask(id + AT_A_TIME, now_us())?;
            } else {
                under_way -= 1;
            }
        }
    }
    Ok(answers)
}

/// How many answers came by the connection and by the stream.
async fn tiny_gets(span: Duration) -> [u64; 2] {
    // A node that stands still for a moment is waited for: there is no other.
    let plan = Plan { nodes: 1, gateway: Extras::patient(), ..Plan::default() };
    let cluster = Cluster::start(plan).await.unwrap();
    let (gateway, node) = (cluster.gateway(0).address(), cluster.node(0).address());
    let until = Instant::now() + span;
    let (connection, stream) = tokio::join!(by_connection(gateway, until), by_stream(node, until));
    eprintln!("row 25: {connection:?} answers by a connection, {stream:?} by a stream in {span:?}");
    [connection.expect("the gateway's connection"), stream.expect("the node's stream")]
}

#[tokio::test]
async fn tiny_gets_short() {
    for answers in tiny_gets(Duration::from_secs(3)).await {
        assert!(answers >= AT_A_TIME, "{answers}");
    }
}

#[tokio::test]
#[ignore = "long: make faults"]
async fn tiny_gets_long() {
    let mut report = Report::begin("25").unwrap();
    let [connection, stream] = tiny_gets(LONG).await;
    report.run(Counts { requests: connection + stream, ..Counts::default() }).unwrap();
    let note = format!("{connection} by one connection, {stream} by one stream, in {LONG:?}");
    report.note(note).unwrap();
    report.passed().unwrap();
}

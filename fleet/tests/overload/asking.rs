//! An open-loop client that costs little: requests are sent when they are due, over connections that
//! are free, and of the answers only the head is looked at.
//!
//! The usual client (`fleet::load`) keeps every value for its checker, and takes as much of the
//! machine as the fleet does; here the fleet is to be overloaded, not the client.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use fleet::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

/// What is read at a time.
const BUFFER: usize = 64 << 10;
/// Requests that are due and find no free connection, at most; more are not sent.
const MAX_WAITING: usize = 65_536;

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) due: Instant,
    pub(super) sent: Instant,
    pub(super) ended: Instant,
    /// 0 if there was no whole answer in time.
    pub(super) status: u16,
    /// Whether it says when to come again.
    pub(super) come_again: bool,
}

impl Asked {
    pub(super) fn took(&self) -> Duration {
        self.ended - self.sent
    }

    pub(super) fn was_refused(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// What to ask for: complete requests of HTTP/1.1, sent in turn.
pub(super) type Requests = Arc<[Vec<u8>]>;

/// `GET`s of these paths.
pub(super) fn gets(paths: impl IntoIterator<Item = String>) -> Requests {
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    paths.into_iter().map(get).collect()
}

/// Connections that are free, and requests that wait for one.
#[derive(Default)]
struct Lobby {
    free: Vec<usize>,
    waiting: VecDeque<Instant>,
    asked: Vec<Asked>,
}

/// Connections to a gateway.
pub(super) struct Client {
    lobby: Arc<Mutex<Lobby>>,
    calls: Vec<mpsc::Sender<Instant>>,
    deadline: Duration,
    _connections: JoinSet<()>,
}

impl Client {
    /// `deadline`: how long an answer may take before it is given up.
    pub(super) fn new(
        gateways: &[SocketAddr],
        connections: usize,
        requests: &Requests,
        deadline: Duration,
    ) -> Self {
        let lobby = Arc::new(Mutex::new(Lobby::default()));
        let (mut calls, mut tasks) = (Vec::new(), JoinSet::new());
        for index in 0..connections {
            let (call, called) = mpsc::channel(1);
            calls.push(call);
            tasks.spawn(serve(Line {
                index,
                gateway: gateways[index % gateways.len()],
                lobby: Arc::clone(&lobby),
                called,
                requests: Arc::clone(requests),
                deadline,
                buffer: vec![0; BUFFER].into(),
            }));
        }
        lobby.lock().unwrap().free = (0..connections).collect();
        Self { lobby, calls, deadline, _connections: tasks }
    }

    /// Uses every connection once, so that none has to be opened later. What is answered does not count.
    pub(super) async fn open_all(&self) {
        let now = Instant::now();
        self.calls.iter().for_each(|_| self.due(now));
        eventually("every connection has been used", self.deadline, async || {
            self.lobby.lock().unwrap().free.len() == self.calls.len()
        })
        .await;
        self.lobby.lock().unwrap().asked.clear();
    }

    /// Sends that many requests a second for so long. What has ended by then, of these and of
    /// earlier ones; the others end in the next one's.
    pub(super) async fn ask(&self, per_second: f64, span: Duration) -> Vec<Asked> {
        let start = Instant::now();
        for n in 0..(per_second * span.as_secs_f64()) as u64 {
            let due = start + Duration::from_secs_f64(n as f64 / per_second);
            // Not for each: there are many in the millisecond that a timer tells apart.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            self.due(due);
        }
        sleep_until(start + span).await;
        std::mem::take(&mut self.lobby.lock().unwrap().asked)
    }

    fn due(&self, due: Instant) {
        let mut lobby = self.lobby.lock().unwrap();
        if let Some(index) = lobby.free.pop() {
            // It is free, so it has room.
            let _ = self.calls[index].try_send(due);
        } else if lobby.waiting.len() < MAX_WAITING {
            lobby.waiting.push_back(due);
        }
    }

    /// Forgets what is due and was not sent.
    pub(super) fn forget_waiting(&self) {
        self.lobby.lock().unwrap().waiting.clear();
    }
}

/// One connection, with one request at a time.
struct Line {
    index: usize,
    gateway: SocketAddr,
    lobby: Arc<Mutex<Lobby>>,
    called: mpsc::Receiver<Instant>,
    requests: Requests,
    deadline: Duration,
    buffer: Box<[u8]>,
}

async fn serve(mut line: Line) {
    let mut stream = None;
    let mut turn = line.index;
    while let Some(mut due) = line.called.recv().await {
        loop {
            turn = (turn + 7_919) % line.requests.len();
            let sent = Instant::now();
            let answer = timeout_at(sent + line.deadline, line.exchange(&mut stream, turn)).await;
            let (status, come_again) = answer.ok().and_then(Result::ok).unwrap_or_else(|| {
                stream = None;
                (0, false)
            });
            let asked = Asked { due, sent, ended: Instant::now(), status, come_again };
            let mut lobby = line.lobby.lock().unwrap();
            lobby.asked.push(asked);
            match lobby.waiting.pop_front() {
                Some(next) => due = next,
                None => {
                    lobby.free.push(line.index);
                    break;
                }
            }
        }
    }
}

impl Line {
    /// The status of the answer, which is read to its end.
    async fn exchange(
        &mut self,
        stream: &mut Option<TcpStream>,
        turn: usize,
    ) -> std::io::Result<(u16, bool)> {
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let opened = TcpStream::connect(self.gateway).await?;
                opened.set_nodelay(true)?;
                stream.insert(opened)
            }
        };
        stream.write_all(&self.requests[turn]).await?;
        let mut have = 0;
        let (head, body) = loop {
            let count = stream.read(&mut self.buffer[have..]).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            have += count;
            let end = self.buffer[..have].windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break (String::from_utf8_lossy(&self.buffer[..end]).to_lowercase(), end + 4);
            }
        };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut left = (body + length).saturating_sub(have);
        while left > 0 {
            let count = stream.read(&mut self.buffer[..]).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            left = left.saturating_sub(count);
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Ok((status.unwrap_or(0), head.contains("\r\nretry-after: ")))
    }
}

/// The time that all but one in a hundred of them took; nothing without any.
pub(super) fn p99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((times.len() * 99 / 100).min(last)).copied().unwrap_or_default()
}

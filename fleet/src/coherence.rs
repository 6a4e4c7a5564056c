//! Readers and writers of a few hot keys, quick enough to put millions of questions to near caches.
//!
//! Other than [`crate::load`] they go as fast as they are answered: whether a read is right does not
//! depend on how many there are, but what goes wrong once in a million is only seen by millions.
//! Readers send several requests at a time over one connection (each is one request and has one
//! answer, in that order); every read counts from before the first of them was sent, so that none is
//! taken to have begun later than it did. Each key has one writer, whose values are ever higher numbers. What it
//! all means is the business of [`crate::checker`].

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf, BytesMut};
use common::clock::{Clock, SystemClock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Ended, Entry, History, Value, value},
    recorder::Op,
};

/// Requests sent at once over a reader's connection.
const AT_ONCE: usize = 16;
/// How long answers may take: longer than any process is stopped for.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long to wait after a connection that failed.
const PAUSE: Duration = Duration::from_millis(50);
/// From one write of a key to the next.
const BETWEEN_WRITES: Duration = Duration::from_millis(40);
/// The head of an answer, at most.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Who asks whom for what, and where it is written down.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The group of all keys.
    pub group: String,
    /// The keys.
    pub keys: Vec<String>,
    /// Where what happens is written down.
    pub history: History,
    /// Ends everybody.
    pub stop: CancellationToken,
}

/// A connection to a gateway that is asked by hand.
struct Asker {
    stream: TcpStream,
    arrived: BytesMut,
}

impl Scene {
    /// Reads keys at random until the end; how many answers there were.
    pub async fn read(self, gateway: SocketAddr, seed: u64) -> u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut entries: Vec<Entry> =
            self.keys.iter().map(|key| self.entry(Op::Get, key, gateway)).collect();
        let requests: Vec<String> = self.keys.iter().map(|key| self.head("GET", key)).collect();
        let mut answered = 0;
        let mut asker = None;
        while !self.stop.is_cancelled() {
            let Some(open) = opened(&mut asker, gateway).await else { continue };
            let asked: Vec<usize> = (0..AT_ONCE).map(|_| random.usize(..self.keys.len())).collect();
            let text: String = asked.iter().map(|&key| format!("{}\r\n", requests[key])).collect();
            let sent = self.now();
            let is_sent = open.send(text.as_bytes()).await.is_ok();
            for key in asked {
                let entry = &mut entries[key];
                let answer = if is_sent && asker.is_some() { next(&mut asker).await } else { None };
                self.ended(entry, sent, answer.map(|(status, body)| read_as(entry, status, &body)));
                answered += u64::from(entry.answered.is_some());
            }
            if !is_sent {
                asker = None;
            }
        }
        answered
    }

    /// Writes one key again and again until the end, by each of the gateways in turn; how many
    /// writes were acknowledged. Numbers begin at 1.
    pub async fn write(self, gateways: Vec<SocketAddr>, key: usize) -> u64 {
        let key = &self.keys[key];
        let mut stored = 0;
        let mut askers: Vec<Option<Asker>> = gateways.iter().map(|_| None).collect();
        for number in 1.. {
            if self.stop.is_cancelled() {
                break;
            }
            let which = number as usize % gateways.len();
            let (asker, gateway) = (&mut askers[which], gateways[which]);
            let Some(open) = opened(asker, gateway).await else { continue };
            let body = value(key, number);
            let head = self.head("PUT", key);
            let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let mut entry = self.entry(Op::Set, key, gateway);
            entry.value = Some(Value::Number(number));
            let sent = self.now();
            let is_sent = open.send(text.as_bytes()).await.is_ok();
            let answer = if is_sent { next(asker).await } else { None };
            self.ended(&mut entry, sent, answer.map(|(status, _)| written_as(status)));
            stored += u64::from(entry.ended == Ended::Stored);
            sleep(BETWEEN_WRITES).await;
        }
        stored
    }

    fn head(&self, method: &str, key: &str) -> String {
        format!("{method} /api/cache?group={}&key={key} HTTP/1.1\r\nHost: ringway\r\n", self.group)
    }

    fn entry(&self, op: Op, key: &str, gateway: SocketAddr) -> Entry {
        Entry {
            op,
            group: self.group.clone(),
            key: key.to_owned(),
            value: None,
            due: Duration::ZERO,
            sent: Duration::ZERO,
            answered: None,
            ended: Ended::NoAnswer,
            gateway: Some(gateway),
        }
    }

    fn now(&self) -> Duration {
        SystemClock.monotonic().saturating_sub(self.history.started())
    }

    /// Writes down how an operation ended.
    fn ended(&self, entry: &mut Entry, sent: Duration, ended: Option<Ended>) {
        (entry.due, entry.sent) = (sent, sent);
        entry.answered = ended.is_some().then(|| self.now());
        entry.ended = ended.unwrap_or(Ended::NoAnswer);
        self.history.entry(entry);
    }
}

fn read_as(entry: &Entry, status: u16, body: &[u8]) -> Ended {
    match status {
        200 => Ended::Value(Value::of(&entry.key, body)),
        404 => Ended::Missing,
        other => Ended::Refused(other, String::new()),
    }
}

fn written_as(status: u16) -> Ended {
    match status {
        201 | 204 => Ended::Stored,
        other => Ended::Refused(other, String::new()),
    }
}

/// The connection, opened if there is none; after a failure a moment passes.
async fn opened(asker: &mut Option<Asker>, gateway: SocketAddr) -> Option<&mut Asker> {
    if asker.is_none() {
        match timeout(PATIENCE, TcpStream::connect(gateway)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                *asker = Some(Asker { stream, arrived: BytesMut::new() });
            }
            _ => sleep(PAUSE).await,
        }
    }
    asker.as_mut()
}

/// The next answer: status and body. Without one the connection is of no use any more.
async fn next(asker: &mut Option<Asker>) -> Option<(u16, BytesMut)> {
    let answer = timeout(PATIENCE, asker.as_mut()?.answer()).await;
    let answer = answer.ok().and_then(Result::ok);
    if answer.is_none() {
        *asker = None;
    }
    answer
}

impl Asker {
    async fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(requests)).await?
    }

    async fn answer(&mut self) -> io::Result<(u16, BytesMut)> {
        loop {
            if let Some((status, head, body)) = head_of(&self.arrived)? {
                while self.arrived.len() < head + body {
                    self.more().await?;
                }
                self.arrived.advance(head);
                return Ok((status, self.arrived.split_to(body)));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.arrived).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Status, length of the head and of the body, once the whole head has arrived.
fn head_of(arrived: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let Some(end) = arrived.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if arrived.len() > MAX_HEAD_BYTES { Err(malformed()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&arrived[..end]).map_err(|_| malformed())?;
    let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    // Without one there is no body: of these answers only 204 is such.
    Ok(Some((status, end + 4, length.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_its_head_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: \"x\"\r\n\r\nabcHTTP/1.1";
        let head = answer.len() - "abcHTTP/1.1".len();
        for cut in 0..head {
            assert_eq!(head_of(&answer[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(head_of(answer).unwrap(), Some((200, head, 3)));
        let stored = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(head_of(stored).unwrap(), Some((204, stored.len(), 0)));
        assert!(head_of(b"nonsense\r\n\r\n").is_err());
    }
}

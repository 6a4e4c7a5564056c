//! What a connection is doing, noted as it happens, so that the watchdog can judge it later.
//!
//! Everything here lies on the path of every request: a few relaxed atomics of the connection's
//! own, two reads of the clock, no timers; with HTTP/2 also a lock that nobody else is at. What
//! follows from it is `watchdog`'s.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    app::Payload,
    frames::EmptyFrames,
    sending::{PIECE, Sending},
};

/// Requests without a body that one HTTP/2 connection has at work at a time; its others wait for their
/// turn. A worker has other connections, most of them with one request.
const AT_WORK: usize = 32;

/// What a connection has served so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// No request yet; which version it speaks is not known.
    Nothing,
    /// An HTTP/1 request.
    Http1,
    /// An HTTP/2 request.
    Http2,
}

/// The notes on one connection. Times are microseconds since it was accepted.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// Requests between their head and the end of their response's body.
    busy: AtomicU32,
    /// 0 nothing, 1 HTTP/1, 2 HTTP/2.
    served: AtomicU8,
    /// When the first byte came while no request was busy, plus 1; 0 if none has.
    head_since: AtomicU64,
    /// When the last request ended, or a blocked write went on.
    idle_since: AtomicU64,
    /// The socket's send buffer is full: responses are still on their way to a slow reader.
    blocked: AtomicBool,
    /// Bytes given to the socket.
    written: AtomicU64,
    /// Responses whose data HTTP/2 has, and the number of the next one.
    sending: Mutex<(HashMap<u64, Weak<Sending>>, u64)>,
    /// It sent frames without content, and no end of them.
    flooded: AtomicBool,
    turns: Semaphore,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            busy: AtomicU32::new(0),
            served: AtomicU8::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            written: AtomicU64::new(0),
            sending: Mutex::default(),
            flooded: AtomicBool::new(false),
            turns: Semaphore::new(AT_WORK),
        })
    }

    pub(super) fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub(super) fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }

    /// When the connection was accepted.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Whether requests or their responses are under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
            || self.blocked.load(Ordering::Relaxed)
            || self.waits_since().is_some()
    }

    /// Since when an HTTP/2 client has taken nothing of a response that is there for it: of the
    /// one that has waited longest.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let sending: Vec<_> = self.sending().0.values().filter_map(Weak::upgrade).collect();
        sending.iter().filter_map(|sending| sending.waits_since()).min()
    }

    /// A response's data goes to HTTP/2. The number is for [`Activity::has_sent`].
    pub(super) fn is_sending(&self, response: Weak<Sending>) -> u64 {
        let (sending, next) = &mut *self.sending();
        *next += 1;
        sending.insert(*next, response);
        *next
    }

    /// All of that response is gone.
    pub(super) fn has_sent(&self, id: u64) {
        self.sending().0.remove(&id);
    }

    fn sending(&self) -> MutexGuard<'_, (HashMap<u64, Weak<Sending>>, u64)> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was cut off for sending frames without content.
    pub(super) fn flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    pub(super) fn served(&self) -> Served {
        match self.served.load(Ordering::Relaxed) {
            0 => Served::Nothing,
            1 => Served::Http1,
            _ => Served::Http2,
        }
    }

    /// When the head that is being read began, if one is.
    pub(super) fn head_since(&self) -> Option<Instant> {
        let since = self.head_since.load(Ordering::Relaxed);
        since.checked_sub(1).map(|micros| self.at(micros))
    }

    /// Since when nothing was under way, if nothing is.
    pub(super) fn idle_since(&self) -> Instant {
        self.at(self.idle_since.load(Ordering::Relaxed))
    }

    /// Bytes written since the connection was accepted.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A request's head is complete: busy until the answer is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.served.store(if version == Version::HTTP_2 { 2 } else { 1 }, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn bytes_came(&self) {
        let quiet = self.busy.load(Ordering::Relaxed) == 0;
        if quiet && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    fn bytes_went(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.blocked.store(true, Ordering::Relaxed),
            Poll::Ready(Ok(count)) => {
                // Only the connection's task writes, so this needs no read-modify-write.
                self.written.store(self.written() + *count as u64, Ordering::Relaxed);
                if self.blocked.load(Ordering::Relaxed) {
                    self.idle_since.store(self.now(), Ordering::Relaxed);
                    self.blocked.store(false, Ordering::Relaxed);
                }
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    /// Waits until it is this request's turn, in the order in which they came; it lasts as long as
    /// the permit. `None`: the connection is ending.
    ///
    /// Only for requests without a body: one whose body waits to be read may hold the window of the
    /// connection, and with it the body of one whose turn it is.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.turns.acquire().await.ok()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // In this order: whoever sees nothing busy sees since when.
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

/// A response's body that keeps its request busy until it is dropped.
#[derive(Debug)]
pub(super) struct BusyBody {
    body: Payload,
    /// With HTTP/2: what was taken from the body and is too much to hand over at once.
    rest: Bytes,
    sending: Option<Arc<Sending>>,
    _busy: Busy,
}

impl BusyBody {
    pub(super) fn new(body: Payload, version: Version, busy: Busy) -> Self {
        let sending = (version == Version::HTTP_2).then(|| Sending::new(&busy.0));
        Self { body, rest: Bytes::new(), sending, _busy: busy }
    }
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(sending) = &this.sending else { return Pin::new(&mut this.body).poll_frame(cx) };
        if this.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) if !data.is_empty() => this.rest = data,
                Ok(empty) => return Poll::Ready(Some(Ok(Frame::data(empty)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(sending.hand_over(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        // The upper bound first: it must not be below the lower one.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// A socket that notes what passes through it.
#[derive(Debug)]
pub(super) struct NotedIo<T> {
    io: T,
    activity: Arc<Activity>,
    empty_frames: EmptyFrames,
}

impl<T> NotedIo<T> {
    pub(super) fn new(io: T, activity: Arc<Activity>) -> Self {
        Self { io, activity, empty_frames: EmptyFrames::new() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for NotedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.activity.bytes_came();
        }
        let written = self.activity.written();
        if self.empty_frames.flooded(came, written) {
            self.activity.flooded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other("too many frames without content")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for NotedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.activity.bytes_went(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.activity.bytes_went(&result);
        result
    }

    /// Passed on: with it hyper writes a response's head and body by one system call.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

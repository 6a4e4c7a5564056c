//! The answer of a batch: outcomes as they come, in the order in which they were asked for.
//!
//! Reads are asked for by the answer itself, while somebody wants it, and cancelled when it is
//! dropped. Writes run in a task of their own to their end, whoever listens.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use common::route::{Ask, Done, Event};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use proto::v1::Verb;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use super::{
    order::{Order, Turn},
    page::{Page, status},
    reads::Reads,
    request::Batch,
};
use crate::{http::Worker, metrics};

/// So much of an answer is sent at once, in bytes.
const CHUNK: usize = 256 << 10;
/// How long outcomes that are there wait for more, so that they need not be sent one by one.
const LINGER: Duration = Duration::from_millis(5);
/// About what an outcome takes beside its value.
const OUTCOME_BYTES: usize = 192;

/// See the module.
pub(super) struct Answer {
    worker: Arc<Worker>,
    reads: Reads,
    writes: mpsc::UnboundedReceiver<(usize, Box<Done>)>,
    order: Order,
    page: Page,
    /// Reads that are not answered.
    open_reads: usize,
    lingering: Option<Pin<Box<Sleep>>>,
    /// Since when no node is waited for, but a part of the answer was written for the client to
    /// take.
    given: Option<Instant>,
}

impl Answer {
    /// Begins all writes and as many reads as there is room for, without waiting for anything in
    /// between, so that what goes to one node leaves together.
    pub(super) fn begin(worker: &Arc<Worker>, batch: Batch) -> Self {
        let started = Instant::now();
        let Batch { gets, sets, deletes } = batch;
        let mut order = Order::new([gets.len(), sets.len(), deletes.len()]);
        let open_reads = gets.len();
        let mut asks = Vec::with_capacity(sets.len() + deletes.len());
        for (place, operation) in (open_reads..).zip(sets.into_iter().chain(deletes)) {
            match operation {
                Ok(ask) => asks.push((place, ask)),
                Err(done) => {
                    count(worker, &done);
                    order.put(place, done);
                }
            }
        }
        let writes = run_writes(worker, asks, started);
        let mut reads = Reads::new(worker, gets, started);
        reads.ask(order.next());
        let (worker, page) = (Arc::clone(worker), Page::default());
        Self { worker, reads, writes, order, page, open_reads, lingering: None, given: None }
    }

    /// The response, once there is something to send. An answer that is whole by then has a length.
    pub(super) async fn into_response(mut self) -> Response<Body> {
        let first = poll_fn(|cx| self.poll_chunk(cx)).await.unwrap_or_default();
        let body = if self.order.is_over() {
            Body::from(first)
        } else {
            Body::new(Streamed { first, answer: self })
        };
        let mut response = Response::new(body);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// The next part of the answer.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.order.is_over() {
            return Poll::Ready(None);
        }
        let now = Instant::now();
        if let Some(given) = self.given.take() {
            self.reads.put_off(now - given);
        }
        loop {
            self.take_in(cx);
            let before = self.order.next();
            self.write();
            if self.order.is_over() || self.page.len() >= CHUNK {
                return Poll::Ready(Some(self.hand_out(now)));
            }
            // What was written made room for more.
            if self.order.next() == before {
                break;
            }
        }
        if self.page.len() == 0 {
            return Poll::Pending;
        }
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        ready!(lingering.as_mut().poll(cx));
        Poll::Ready(Some(self.hand_out(now)))
    }

    /// Takes in the outcomes that have come, and asks for what there is room for.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Poll::Ready((number, done)) = self.reads.poll_next(cx) {
                self.open_reads -= 1;
                count(&self.worker, &done);
                self.order.put(number, done);
            }
            if !self.reads.ask(self.order.next()) {
                break;
            }
        }
        while let Poll::Ready(Some((place, done))) = self.writes.poll_recv(cx) {
            self.order.put(place, done);
        }
    }

    /// Writes until the page is full or an outcome is missing.
    fn write(&mut self) {
        while self.page.len() < CHUNK {
            if self.page.is_within_value() {
                if self.page.go_on() {
                    self.reads.written(self.order.next() - 1);
                }
                continue;
            }
            let left = self.order.left();
            match self.order.turn(&mut self.page) {
                Turn::Outcome(done) => {
                    if self.page.is_new() {
                        let one = done.result.as_ref().map_or(0, |reply| reply.value.len());
                        self.page.reserve((left * (OUTCOME_BYTES + one)).min(CHUNK));
                    }
                    self.page.outcome(*done);
                }
                Turn::Missing | Turn::Over => return,
            }
        }
    }

    fn hand_out(&mut self, given: Instant) -> Bytes {
        self.lingering = None;
        self.given = Some(given);
        self.page.take()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.worker.metrics.canceled(metrics::Operation::Get, self.open_reads);
    }
}

/// Begins the writes, each with its place, and sees them through.
fn run_writes(
    worker: &Arc<Worker>,
    asks: Vec<(usize, Ask)>,
    started: Instant,
) -> mpsc::UnboundedReceiver<(usize, Box<Done>)> {
    // As many messages as there are writes, and none with a value.
    let (outcomes, receiver) = mpsc::unbounded_channel();
    if asks.is_empty() {
        return receiver;
    }
    let mut many = worker.cache.many(asks.len(), started);
    let begin = |(place, ask)| {
        many.begin(ask, started);
        place
    };
    let places: Vec<usize> = asks.into_iter().map(begin).collect();
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        while let Some(event) = many.next().await {
            let Event::Done(number, mut done) = event else { continue };
            // The link has let go of it: it was answered.
            if let Some(request) = Arc::get_mut(&mut done.request) {
                request.value = Bytes::new();
            }
            count(&worker, &done);
            let _ = outcomes.send((places[number], done));
        }
    });
    receiver
}

fn count(worker: &Worker, done: &Done) {
    let operation = match done.request.verb() {
        Verb::Set => metrics::Operation::Set,
        Verb::Delete => metrics::Operation::Delete,
        Verb::Get | Verb::Unspecified => metrics::Operation::Get,
    };
    worker.metrics.answered(operation, status(done.request.verb(), &done.result));
}

/// The answer as a body.
struct Streamed {
    /// What was there when the response began; empty once it is sent.
    first: Bytes,
    answer: Answer,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        self.answer.poll_chunk(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

//! Many operations of one request.
//!
//! The first try of each is handed to its node's link before anything is waited for, so that all
//! that go to one node leave together. An operation that is answered plainly, which is nearly every
//! one, costs no future of its own; the others (nobody answered, the node knows a newer ring, …) go
//! on as a single call would, side by side. What is large is told first, because whoever asked may
//! not have the room for it yet.
//!
//! Dropping it gives up the answers that have not come: reads are cancelled, writes may still be
//! applied, but are tried nowhere else any more.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use proto::v1;
use tokio::time::Instant;

use super::{
    Ask, Router,
    attempt::{Asked, Errand, Manner, Tried, redefined},
    no_nodes,
    wired::Wired,
};
use crate::{
    error::{Code, Error, Result},
    link::{Answer, Inbox},
};

/// An operation that has ended.
#[derive(Debug)]
pub struct Done {
    /// What was asked.
    pub request: Arc<v1::Request>,
    /// The reply, whose code is OK, or as for [`Router::call`].
    pub result: Result<v1::Reply>,
}

impl Done {
    /// One that its requester refuses, without asking anybody.
    pub fn refused(ask: Ask, error: Error) -> Self {
        Self { request: ask.into_request(), result: Err(error) }
    }
}

/// A read that found a value too large for the small lane, and waits until it may fetch it.
pub struct Large(Box<Unfinished>);

impl fmt::Debug for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Large").field(&self.0.underway.asked.request.key).finish()
    }
}

impl Large {
    /// The group that the value is of.
    pub fn group(&self) -> &str {
        &self.0.underway.asked.request.group
    }
}

/// What happened to an operation, by its number.
#[derive(Debug)]
pub enum Event {
    /// It has ended.
    Done(usize, Box<Done>),
    /// It goes on with [`Many::fetch`].
    Large(usize, Large),
}

/// An operation whose first try is under way.
struct Underway {
    asked: Asked,
    manner: Manner,
    wired: Arc<Wired>,
    node: usize,
    started: Instant,
}

/// An operation whose first try did not end it.
struct Unfinished {
    underway: Underway,
    answer: Answer,
}

/// Operations under way, numbered from 0 in the order in which they began.
pub struct Many {
    router: Arc<Router>,
    inbox: Inbox,
    underway: Vec<Option<Underway>>,
    /// What ended as it began.
    refused: VecDeque<(usize, Box<Done>)>,
    unfinished: FuturesUnordered<BoxFuture<'static, (usize, Box<Done>)>>,
    /// Operations that have begun and not ended.
    open: usize,
    deadline: Instant,
}

impl fmt::Debug for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, open) = (self.underway.len(), self.open);
        f.debug_struct("Many").field("begun", &begun).field("open", &open).finish()
    }
}

impl Many {
    /// None yet, and room for as many as that. All of them are to end by `deadline`.
    pub fn new(router: Arc<Router>, count: usize, deadline: Instant) -> Self {
        Self {
            router,
            inbox: Inbox::new(),
            underway: Vec::with_capacity(count),
            refused: VecDeque::new(),
            unfinished: FuturesUnordered::new(),
            open: 0,
            deadline,
        }
    }

    /// Puts the deadline off, for what begins from now on or is found to need another try.
    pub fn put_off(&mut self, by: Duration) {
        self.deadline += by;
    }

    /// Begins an operation at `started`, which is now, and returns its number. What begins without
    /// an await in between leaves together.
    pub fn begin(&mut self, ask: Ask, started: Instant) -> usize {
        let number = self.underway.len();
        let wired = self.router.wired();
        let request = match self.router.named(ask, &wired.topology) {
            Ok(request) => request,
            Err((request, error)) => return self.refuse(request, error),
        };
        // Sent, it would be the node that seems to be late.
        if started >= self.deadline {
            return self.refuse(request, too_late());
        }
        let position = wired.topology.ring.position(&request.group, &request.key);
        let first = wired.candidates(position).and_then(|(owner, mut candidates)| {
            let node = candidates.next()?;
            Some((node, node != owner))
        });
        let Some((node, stand_in)) = first else {
            return self.refuse(request, no_nodes());
        };
        let asked = Asked { request, position, deadline: self.deadline };
        let manner = Manner { stand_in, epoch: wired.topology.epoch, bulk: asked.is_bulky() };
        let call = self.router.try_of(&asked, manner, started);
        wired.wires[node].link(manner.bulk).submit(call, &self.inbox, number);
        self.underway.push(Some(Underway { asked, manner, wired, node, started }));
        self.open += 1;
        number
    }

    fn refuse(&mut self, request: Arc<v1::Request>, error: Error) -> usize {
        let number = self.underway.len();
        self.underway.push(None);
        self.open += 1;
        self.refused.push_back((number, Box::new(Done { request, result: Err(error) })));
        number
    }

    /// Fetches a large value.
    pub fn fetch(&mut self, number: usize, large: Large) {
        self.finish(number, *large.0);
    }

    /// Goes on with an operation as a single call would after such an answer.
    fn finish(&mut self, number: usize, unfinished: Unfinished) {
        let router = Arc::clone(&self.router);
        let Unfinished { underway, answer } = unfinished;
        let Underway { asked, manner, wired, node, started } = underway;
        let asked = Asked { deadline: self.deadline, ..asked };
        let mut errand = Errand::new(asked, Some(Tried { node, manner, started, answer }));
        self.unfinished.push(Box::pin(async move {
            let result = router.carry_out(&mut errand, wired).await;
            let result = result.map(|answered| answered.reply);
            (number, Box::new(Done { request: errand.asked.request, result }))
        }));
    }

    /// What happens next; `None` when nothing is under way. Pending for good if all that is are
    /// large values that nobody fetches.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.open == 0 {
            return Poll::Ready(None);
        }
        if let Some((number, done)) = self.refused.pop_front() {
            return self.ended(number, done);
        }
        while let Poll::Ready((number, answer)) = self.inbox.poll_next(cx) {
            let Some(underway) = self.underway[number].take() else { continue };
            match underway.hear(answer) {
                Heard::Done(done) => return self.ended(number, done),
                Heard::Large(large) => return Poll::Ready(Some(Event::Large(number, large))),
                Heard::Unfinished(unfinished) => self.finish(number, *unfinished),
            }
        }
        match self.unfinished.poll_next_unpin(cx) {
            Poll::Ready(Some((number, done))) => self.ended(number, done),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The same, awaited. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn ended(&mut self, number: usize, done: Box<Done>) -> Poll<Option<Event>> {
        self.open -= 1;
        Poll::Ready(Some(Event::Done(number, done)))
    }
}

fn too_late() -> Error {
    Error::new(Code::Timeout, "the time was over before it could be asked for")
}

/// What a first answer means.
enum Heard {
    Done(Box<Done>),
    Large(Large),
    Unfinished(Box<Unfinished>),
}

impl Underway {
    fn hear(self, answer: Answer) -> Heard {
        match answer {
            Answer::Reply(reply) if reply.use_bulk => {
                let answer = Answer::Reply(reply);
                Heard::Large(Large(Box::new(Unfinished { underway: self, answer })))
            }
            // Seldom enough to begin once more, as a single call would.
            answer if redefined(&self.asked.request, &answer).is_some() => {
                Heard::Unfinished(Box::new(Unfinished { underway: self, answer }))
            }
            Answer::Reply(reply) => {
                self.wired.wires[self.node].health.succeeded();
                let error = Error::from_reply(&reply);
                let result = error.map_or(Ok(reply), Err);
                Heard::Done(Box::new(Done { request: self.asked.request, result }))
            }
            answer => Heard::Unfinished(Box::new(Unfinished { underway: self, answer })),
        }
    }
}

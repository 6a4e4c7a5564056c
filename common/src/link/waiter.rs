//! Who waits for an operation's answer: one caller alone, or one who waits for many at once.

use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::Answer;

/// Where the answer of one operation goes.
#[derive(Debug)]
pub(super) enum Waiter {
    /// To the call's own future.
    Alone(oneshot::Sender<Answer>),
    /// To an inbox, under the number that its owner gave to the operation.
    Among(mpsc::UnboundedSender<(usize, Answer)>, usize),
}

impl Waiter {
    /// Answers. A caller that has left does not mind.
    pub(super) fn answer(self, answer: Answer) {
        match self {
            Self::Alone(caller) => drop(caller.send(answer)),
            Self::Among(inbox, number) => drop(inbox.send((number, answer))),
        }
    }

    pub(super) fn has_left(&self) -> bool {
        match self {
            Self::Alone(caller) => caller.is_closed(),
            Self::Among(inbox, _) => inbox.is_closed(),
        }
    }
}

/// Receives the answers of many operations, as they come. It holds at most one for each operation
/// that was submitted with it. Dropping it gives up all that have not come.
#[derive(Debug)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<(usize, Answer)>,
    receiver: mpsc::UnboundedReceiver<(usize, Answer)>,
}

impl Inbox {
    /// An inbox for which nothing is under way.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }

    /// The next answer and its operation's number. Pending also when none is to be expected.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Answer)> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(numbered)) => Poll::Ready(numbered),
            // Never closed: a sender is kept here.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn waiter(&self, number: usize) -> Waiter {
        Waiter::Among(self.sender.clone(), number)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

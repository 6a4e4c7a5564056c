//! An open-loop client: it sends when the schedule says so, not when the last answer came.
//!
//! A closed loop slows down with the server and so hides what a fault does. Here an operation
//! becomes due every `1/rate` seconds whatever the server does; it waits for a free connection if
//! all are busy, and its latency and its deadline count from the moment it was due. It knows the
//! canonical dialect and nothing else, retries nothing, and follows no redirect.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use common::clock::{Clock, SystemClock};
use http::{Request, header::ETAG};
use http_body_util::Full;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    history::History,
    http::{Connection, HttpError, Response},
    recorder::{Operation, Outcome, Planned, Record, Recording},
};

/// The deadline of the fault matrix.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// How many connections a client has if not told otherwise.
pub const CONNECTIONS: usize = 64;

/// How many operations one client records at most; the load ends there.
pub const MAX_OPERATIONS: u64 = 10_000_000;

/// How many due operations may wait for a connection. One that waits for longer than the deadline
/// is lost anyway, so this is only reached at rates that one client can't make.
const MAX_WAITING: usize = 65_536;

/// What to send where, how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// The gateways; connections are spread over them evenly and stay with theirs.
    pub gateways: Vec<SocketAddr>,
    /// Operations per second.
    pub rate: f64,
    /// How many connections, at least one; each carries one operation at a time.
    pub connections: usize,
    /// How long an operation may take, from the moment it is due.
    pub deadline: Duration,
    /// Where the operations are recorded.
    pub record: Record,
}

/// A load that is being sent. Dropping it stops at once and forgets what was recorded.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    recorder: Arc<Recorder>,
}

#[derive(Debug)]
struct Recorder {
    clock: SystemClock,
    history: Option<History>,
    recording: Mutex<Recording>,
}

/// An operation whose time has come.
struct Due {
    planned: Planned,
    due: Duration,
    deadline: Instant,
}

type Queue = Arc<AsyncMutex<mpsc::Receiver<Due>>>;

impl Load {
    /// A load with the usual connections and deadline.
    pub fn new(gateways: impl Into<Vec<SocketAddr>>, rate: f64) -> Self {
        Self {
            gateways: gateways.into(),
            rate,
            connections: CONNECTIONS,
            deadline: DEADLINE,
            record: Record::Memory,
        }
    }

    /// Starts sending, on the current runtime. `plan` gives the operation with each number, from 0;
    /// the load ends by itself when it gives none.
    ///
    /// # Panics
    ///
    /// Without a gateway or a positive rate.
    pub fn start(self, plan: impl FnMut(u64) -> Option<Planned> + Send + 'static) -> Running {
        assert!(!self.gateways.is_empty() && self.rate > 0.0, "a load needs a gateway and a rate");
        let clock = SystemClock;
        let started = clock.monotonic();
        let (history, recording) = match &self.record {
            Record::Memory => (None, Recording::new(started)),
            Record::History(history) => (Some(history.clone()), Recording::of_totals(started)),
            Record::Both(history) => (Some(history.clone()), Recording::new(started)),
        };
        let recorder = Arc::new(Recorder { clock, history, recording: Mutex::new(recording) });
        let stop = CancellationToken::new();
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let queue: Queue = Arc::new(AsyncMutex::new(receiver));
        let mut tasks = JoinSet::new();
        for n in 0..self.connections.max(1) {
            let worker = Worker {
                gateway: self.gateways[n % self.gateways.len()],
                connection: None,
                recorder: Arc::clone(&recorder),
            };
            tasks.spawn(worker.run(Arc::clone(&queue)));
        }
        let schedule = Schedule { load: self, sender, recorder: Arc::clone(&recorder) };
        let stopped = stop.clone();
        tasks.spawn(async move {
            // Dropping the schedule drops the sender: the workers finish what is queued, and end.
            stopped.run_until_cancelled(schedule.run(plan)).await;
        });
        Running { stop, tasks, recorder }
    }
}

impl Running {
    /// What has ended so far.
    pub fn so_far(&self) -> Recording {
        self.recorder.recording().clone()
    }

    /// Stops sending, waits for what is on its way (at most one deadline), and returns everything.
    pub async fn stop(self) -> Recording {
        self.stop.cancel();
        self.finish().await
    }

    /// Waits until the plan has no more, and returns everything.
    ///
    /// # Panics
    ///
    /// When the plan did.
    pub async fn finish(mut self) -> Recording {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::mem::take(&mut *self.recorder.recording())
    }
}

impl Recorder {
    fn recording(&self) -> std::sync::MutexGuard<'_, Recording> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an operation. `sent` is when and to which gateway, if it was; no `answer` is none in
    /// time.
    fn record(
        &self,
        due: Due,
        sent: Option<(Duration, SocketAddr)>,
        answer: Option<Result<Response, HttpError>>,
    ) {
        let outcome = Outcome::of(due.planned.op, answer.as_ref());
        let answer = answer.and_then(Result::ok);
        let answered = answer.is_some().then(|| self.clock.monotonic());
        let version = answer.and_then(|answer| Some(answer.header(ETAG.as_str())?.to_owned()));
        let Planned { op, group, key, value } = due.planned;
        let (due, gateway) = (due.due, sent.map(|(_, gateway)| gateway));
        let sent = sent.map_or(due, |(at, _)| at);
        let operation =
            Operation { op, group, key, value, version, due, sent, answered, outcome, gateway };
        if let Some(history) = &self.history {
            history.operation(&operation);
        }
        self.recording().add(operation);
    }
}

/// Makes operations due.
struct Schedule {
    load: Load,
    sender: mpsc::Sender<Due>,
    recorder: Arc<Recorder>,
}

impl Schedule {
    async fn run(self, mut plan: impl FnMut(u64) -> Option<Planned>) {
        let start = Instant::now();
        let start_clock = self.recorder.clock.monotonic();
        for n in 0..MAX_OPERATIONS {
            let Some(planned) = plan(n) else { return };
            // From the start and not from the last one: being late once must not shift the rest.
            let offset = Duration::from_secs_f64(n as f64 / self.load.rate);
            sleep_until(start + offset).await;
            let deadline = start + offset + self.load.deadline;
            let due = Due { planned, due: start_clock + offset, deadline };
            if let Err(refused) = self.sender.try_send(due) {
                self.recorder.record(refused.into_inner(), None, None);
            }
        }
    }
}

/// One connection's worth of requests.
struct Worker {
    gateway: SocketAddr,
    connection: Option<Connection>,
    recorder: Arc<Recorder>,
}

impl Worker {
    async fn run(mut self, queue: Queue) {
        loop {
            // A statement of its own: the lock must be free again before the request is sent.
            let next = queue.lock().await.recv().await;
            let Some(due) = next else { return };
            let mut sent = None;
            let answer =
                timeout_at(due.deadline, self.exchange(&due.planned, &mut sent)).await.ok();
            if !matches!(answer, Some(Ok(_))) {
                // A late answer must not be taken for that of the next request.
                self.connection = None;
            }
            self.recorder.record(due, sent.map(|at| (at, self.gateway)), answer);
        }
    }

    /// Sends one request and reads its answer, on the open connection or a new one.
    async fn exchange(
        &mut self,
        planned: &Planned,
        sent: &mut Option<Duration>,
    ) -> Result<Response, HttpError> {
        if let Some(mut connection) = self.connection.take() {
            let answer = self.send(&mut connection, planned, sent).await;
            // A server may close an idle connection; nothing was sent, so that is no failure.
            if !matches!(answer, Err(HttpError::Closed)) {
                self.connection = Some(connection);
                return answer;
            }
        }
        let mut connection = Connection::open(self.gateway).await?;
        let answer = self.send(&mut connection, planned, sent).await;
        self.connection = Some(connection);
        answer
    }

    async fn send(
        &self,
        connection: &mut Connection,
        planned: &Planned,
        sent: &mut Option<Duration>,
    ) -> Result<Response, HttpError> {
        let request: Request<Full<Bytes>> = Request::builder()
            .method(planned.method())
            .uri(planned.target())
            .body(Full::new(planned.value.clone()))?;
        *sent = Some(self.recorder.clock.monotonic());
        connection.send(request).await
    }
}

#[cfg(test)]
mod tests;

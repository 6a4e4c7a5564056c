//! Follows the cluster state: lists it, watches it from there, and lists it again whenever that
//! may have missed something.
//!
//! A session is one connection. It begins with a list at revision R and a watch from R + 1, and
//! any trouble at all (compaction, a cancel, the stream's end, an error, a revision that goes
//! backwards) ends it: the next one lists again, and what differs is the news. What of it is shown,
//! and when, the [`Publisher`] decides.

use std::{convert::Infallible, sync::Arc, time::Duration};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    CatchUp, EtcdOptions,
    carry::carry,
    connection::{Connection, Endpoints, Fault},
    list::{Listing, MAX_ANSWER_BYTES, entry, revision},
    publisher::{Publisher, ToCarry},
};
use crate::{
    discovery::{
        View, WantedRing,
        backoff::{Backoff, between_half_and_all},
        carried::write_carried,
        layout::{Layout, write_settings},
        mirror::{Mirror, Single},
        standing::Standing,
    },
    error::{Code, Error, Result},
};

/// The longest wait between tries; etcd may be away for days, and is followed again within a second
/// when it is back.
const LONGEST_WAIT: Duration = Duration::from_millis(800);
/// A session that lasted this long was a good one: the next wait is short again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// The wait between tries while somebody has proof that there is news: a request was refused
/// because of a newer ring.
const SOONEST_TRY: Duration = Duration::from_millis(100);
/// How often a list may find that what every cluster needs is missing, or race with its writing.
const MAX_LISTS: usize = 5;
/// How long until members that could not be carried, or are not seen to be, are written again.
const CARRY_AGAIN: Duration = Duration::from_secs(1);

/// The task's state.
pub(super) struct Watcher {
    endpoints: Endpoints,
    layout: Layout,
    wanted: WantedRing,
    anti_entropy: Duration,
    mirror: Mirror,
    publisher: Publisher,
    carry_time: Duration,
    carry_again_at: Option<Instant>,
    standing: Arc<Standing>,
}

type Step<T> = std::result::Result<T, Fault>;

impl Watcher {
    pub(super) fn new(
        endpoints: Endpoints,
        layout: Layout,
        options: EtcdOptions,
        publisher: Publisher,
        standing: Arc<Standing>,
    ) -> Self {
        let (endpoints, mirror) = (endpoints.shuffled(), Mirror::new(layout.clone()));
        let carry_time = longest_carry(options.lease_ttl);
        let EtcdOptions { wanted, anti_entropy, .. } = options;
        Self {
            endpoints,
            layout,
            wanted,
            anti_entropy,
            mirror,
            publisher,
            carry_time,
            carry_again_at: None,
            standing,
        }
    }

    /// Follows the state until it is aborted.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<CatchUp>) {
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        let mut asked = None;
        loop {
            let began = Instant::now();
            let why = match self.session(&mut asked, &mut orders).await {
                Ok(never) => match never {},
                Err(fault) => fault.in_words(),
            };
            if began.elapsed() >= GOOD_SESSION {
                backoff.reset();
            }
            refuse(asked.take(), &mut orders, &why);
            self.standing.failing(why);
            self.publisher.is_cut_off();
            self.carry_again_at = None;
            asked = pause(backoff.next(), &mut orders).await;
        }
    }

    /// Follows the state on one connection. `asked` is answered as soon as there is one.
    async fn session(
        &mut self,
        asked: &mut Option<CatchUp>,
        orders: &mut mpsc::Receiver<CatchUp>,
    ) -> Step<Infallible> {
        let connection = self.endpoints.connect().await?;
        match asked.take() {
            Some(order) => self.catch_up(&connection, order, orders).await?,
            None => drop(self.sync(&connection, &[]).await?),
        }
        let (mut stream, mut heard) = self.watch(&connection).await?;
        self.standing.connected();
        self.standing.heard();
        let mut next_list = Instant::now() + between_half_and_all(self.anti_entropy);
        loop {
            let decide_at = self.decide_at();
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) => {
                        self.standing.heard();
                        heard = self.apply(&connection, &message, heard)?;
                        self.publish(&connection, &[]).await?;
                    }
                    Ok(None) => return Err(connection.fault("the watch has ended")),
                    Err(error) => return Err(connection.fault_of(&error)),
                },
                Some(order) = orders.recv() => self.catch_up(&connection, order, orders).await?,
                () = sleep_until(decide_at.unwrap_or(next_list)), if decide_at.is_some() => {
                    self.publish(&connection, &[]).await?;
                }
                () = sleep_until(next_list) => {
                    if self.sync(&connection, &[]).await? {
                        return Err(connection.fault("the watch had missed changes"));
                    }
                    next_list = Instant::now() + between_half_and_all(self.anti_entropy);
                }
            }
        }
    }

    /// Reads the whole state, writes what every cluster needs if it is missing, and publishes.
    /// `asked` are revisions that others show already. Returns whether there was any news.
    async fn sync(&mut self, connection: &Connection, asked: &[u64]) -> Step<bool> {
        let mut news = false;
        for _ in 0..MAX_LISTS {
            let listing = Listing::read(connection, self.layout.prefix()).await?;
            let last = self.publisher.last();
            let went_back = last.as_ref().is_some_and(|last| listing.revision < last.as_of);
            news |= self.mirror.replace(listing.revision, listing.entries());
            if self.complete(connection, last.as_deref(), went_back).await? {
                continue;
            }
            if !self.publish(connection, asked).await? {
                return Ok(news);
            }
        }
        Err(connection.fault("the ring settings, generation and carried members keep changing"))
    }

    /// Writes what is missing. Returns whether the state has to be listed again.
    async fn complete(
        &self,
        connection: &Connection,
        last: Option<&View>,
        went_back: bool,
    ) -> Step<bool> {
        let mut again = false;
        if *self.mirror.ring() == Single::Absent {
            let settings = last.map_or_else(|| self.wanted.or_default(), |last| last.ring.clone());
            self.create(connection, self.layout.ring(), write_settings(&settings)).await?;
            again = true;
        }
        if let (Single::Known(ring), Some(last)) = (self.mirror.ring(), last)
            && *ring != last.ring
            && self.is_forgotten(last)
        {
            // Whoever came first did not know the settings, by which the keys still lie.
            let key = self.layout.ring();
            let upto = self.mirror.as_of() as i64;
            let unchanged = Compare::mod_revision(key.clone(), CompareOp::Less, upto + 1);
            let restored = TxnOp::put(key, write_settings(&last.ring), None);
            let txn = Txn::new().when([unchanged]).and_then([restored]);
            connection.answer(connection.client.kv_client().txn(txn)).await?;
            again = true;
        }
        let key = self.layout.generation();
        match (self.mirror.generation(), last) {
            (Single::Absent, _) => {
                let fresh = Uuid::new_v4().to_string().into_bytes();
                self.create(connection, key, fresh).await?;
                again = true;
            }
            // Rolled back: the revisions to come will have been used before, so this is
            // another life of the cluster state.
            (Single::Known(now), Some(last)) if went_back && *now == last.generation => {
                let same = Compare::value(key.clone(), CompareOp::Equal, now.to_string());
                let fresh = TxnOp::put(key, Uuid::new_v4().to_string(), None);
                let txn = Txn::new().when([same]).and_then([fresh]);
                connection.answer(connection.client.kv_client().txn(txn)).await?;
                again = true;
            }
            _ => {}
        }
        Ok(again)
    }

    /// Whether the cluster state is another life of the fleet that was shown last.
    fn is_forgotten(&self, last: &View) -> bool {
        let is_reborn =
            matches!(self.mirror.generation(), Single::Known(now) if *now != last.generation);
        is_reborn && self.publisher.is_same_fleet(self.mirror.live())
    }

    /// Writes a key unless somebody else has: the first writer wins.
    async fn create(&self, connection: &Connection, key: String, value: Vec<u8>) -> Step<()> {
        let absent = Compare::version(key.clone(), CompareOp::Equal, 0);
        let txn = Txn::new().when([absent]).and_then([TxnOp::put(key, value, None)]);
        connection.answer(connection.client.kv_client().txn(txn)).await.map(drop)
    }

    /// Begins to watch, and waits until etcd has said that it does. Returns the stream and the
    /// revision it began at.
    async fn watch(&self, connection: &Connection) -> Step<(WatchStream, u64)> {
        let from = self.mirror.as_of() + 1;
        let options = WatchOptions::new()
            .with_prefix()
            .with_progress_notify()
            .with_start_revision(from as i64);
        let mut watches =
            connection.client.watch_client().max_decoding_message_size(MAX_ANSWER_BYTES);
        let opening = async {
            let mut stream = watches.watch(self.layout.prefix(), Some(options)).await?;
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = connection.answer(opening).await?;
        let first = first.ok_or_else(|| connection.fault("the watch has ended"))?;
        self.check(connection, &first)?;
        let began_at = revision(first.header());
        if !first.created() || began_at < self.mirror.as_of() {
            return Err(connection.fault("the watch does not begin where the list ended"));
        }
        Ok((stream, began_at))
    }

    /// Takes what the watch says. `heard` is the latest revision of this stream.
    fn apply(&mut self, connection: &Connection, message: &WatchResponse, heard: u64) -> Step<u64> {
        self.check(connection, message)?;
        let now = revision(message.header());
        if now < heard {
            return Err(connection.fault("its revisions go backwards"));
        }
        if message.events().is_empty() {
            // A progress notification: nothing else has happened up to here.
            self.mirror.advance(now);
        }
        // A message holds whole revisions, so the mirror is consistent after it. What the last
        // list had already seen is a duplicate.
        let known = self.mirror.as_of();
        let news = message.events().iter().filter_map(|event| event.kv());
        for kv in news.filter(|kv| kv.mod_revision().unsigned_abs() > known) {
            // Not `event_type()`, which panics on what it does not know: a deleted key, and no
            // other, is at version 0.
            if kv.version() == 0 {
                self.mirror.delete(kv.key());
            } else {
                self.mirror.put(&entry(kv));
            }
            self.mirror.advance(kv.mod_revision().unsigned_abs());
        }
        Ok(now)
    }

    fn check(&self, connection: &Connection, message: &WatchResponse) -> Step<()> {
        if message.compact_revision() > 0 {
            let upto = message.compact_revision();
            return Err(connection.fault(format!("history up to revision {upto} was compacted")));
        }
        if message.canceled() {
            let why = message.cancel_reason();
            return Err(connection.fault(format!("the watch was cancelled: {why}")));
        }
        Ok(())
    }

    /// When to look at the mirror again though nothing was heard.
    fn decide_at(&self) -> Option<Instant> {
        let decide_at = self.publisher.decide_at()?;
        Some(self.carry_again_at.map_or(decide_at, |again| decide_at.min(again)))
    }

    /// Shows the mirror to the world, if it is fit to be shown. Returns whether members were
    /// written to be carried instead, which is shown when it has come back from etcd.
    async fn publish(&mut self, connection: &Connection, asked: &[u64]) -> Step<bool> {
        self.standing.skipped(self.mirror.skipped());
        let raw = self.mirror.raw().map_err(|why| connection.fault(why))?;
        // Told before the view, so that nobody starts with settings that are not the cluster's.
        self.standing.conflict(self.wanted.conflict_with(&raw.view.ring));
        let Some(ToCarry { members, missing }) = self.publisher.take(&raw, asked) else {
            self.carry_again_at = None;
            return Ok(false);
        };
        if self.carry_again_at.is_some_and(|again| Instant::now() < again) {
            return Ok(false);
        }
        let (key, seen) = (self.layout.carried(), self.mirror.carried_revision());
        let value = write_carried(&members);
        let carried = carry(connection, key, seen, self.carry_time, value).await;
        self.carry_again_at = Some(Instant::now() + CARRY_AGAIN);
        // The session goes on: the state may be readable though it can't be written.
        let problem = carried.err().map(Fault::in_words);
        let is_written = problem.is_none();
        self.standing.keeping(missing, problem);
        Ok(is_written)
    }

    /// Lists once for everybody who waits for it.
    async fn catch_up(
        &mut self,
        connection: &Connection,
        first: CatchUp,
        orders: &mut mpsc::Receiver<CatchUp>,
    ) -> Step<()> {
        let mut waiting = vec![first];
        while let Ok(order) = orders.try_recv() {
            waiting.push(order);
        }
        let asked: Vec<_> = waiting.iter().map(|order| order.as_of).collect();
        let synced = self.sync(connection, &asked).await;
        let view = self.publisher.shown();
        for CatchUp { as_of, done } in waiting {
            let answer = match (&synced, &view) {
                (Ok(_), Some(view)) if view.as_of >= as_of => Ok(Arc::clone(view)),
                (Ok(_), _) => Err(format!("the cluster state has not got to revision {as_of}")),
                (Err(_), _) => Err("the cluster state can't be read now".into()),
            };
            let _ = done.send(answer.map_err(unavailable));
        }
        synced.map(drop)
    }
}

/// How long members are carried: as long as two leases, so that each node may have noticed that
/// its own is lost and have written its record again.
pub(super) fn longest_carry(lease_ttl: Duration) -> Duration {
    lease_ttl * 2
}

fn unavailable(why: String) -> Error {
    Error::new(Code::NodeUnavailable, why)
}

/// There is no connection: says so to everybody who has asked.
fn refuse(asked: Option<CatchUp>, orders: &mut mpsc::Receiver<CatchUp>, why: &str) {
    let waiting = std::iter::from_fn(|| orders.try_recv().ok());
    for order in asked.into_iter().chain(waiting) {
        let answer: Result<Arc<View>> = Err(unavailable(why.to_owned()));
        let _ = order.done.send(answer);
    }
}

/// Waits for the next try: for `full`, or for a moment if somebody asks, who is returned.
async fn pause(full: Duration, orders: &mut mpsc::Receiver<CatchUp>) -> Option<CatchUp> {
    let began = Instant::now();
    let asked = timeout(full, orders.recv()).await.ok()?;
    // Nobody is left who could ask when discovery is being dropped.
    let soonest = asked.as_ref().map_or(full, |_| between_half_and_all(SOONEST_TRY));
    sleep_until(began + full.min(soonest)).await;
    asked
}

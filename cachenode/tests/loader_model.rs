//! Random sequences of reads, writes, and of what an origin does, against a model of the promises:
//!
//! - what is read is the last write of its key, or comes from a load that began after that write;
//! - a reader that began after a write is not answered by a load from before it;
//! - a key has at most one load under way that began after its last write, however it came about: a
//!   miss, a value that is past its time, or one that is loaded anew before that;
//! - what its origin renews, and what is answered because the origin is late, is no older than that;
//! - every reader that stays gets an answer once its load is over, however that ends.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cachenode::{
    group::{Authority, Definition, Delete, Found, Group, Item, Outcome, Write},
    origin::{Asked, LoadError, Loaded, Loading, Origin, OriginDefinition, Reloaded, Reloading},
};
use common::{
    clock::{Clock, ManualClock},
    entry::HybridClock,
    error::{Code, Error},
    key::GroupName,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::{JoinHandle, yield_now},
};

const KEYS: [&str; 3] = ["Tom", "Jack", "Sam"];
/// How long entries live, and what is remembered of absent ones.
const TTL: Duration = Duration::from_secs(10);
const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// Enough turns of the runtime for everybody to do what there is to do.
const TURNS: usize = 20;

#[derive(Debug, Clone)]
enum Step {
    Get(usize),
    Set(usize),
    Delete(usize),
    /// The origin answers one of its loads.
    Answer(Index, Said),
    /// The task of a load is gone.
    Kill(Index),
    /// A reader leaves.
    Leave(Index),
    /// A reader has no more patience with the origin: it takes what there is, if it may.
    Settle(Index),
    Advance(Duration),
    /// From now on the node may store what it loads, or not.
    Own(bool),
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Value,
    /// What there was is still true; a value if it is not asked that.
    Unchanged,
    Nothing,
    Failure,
    Panic,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let said = prop_oneof![
        4 => Just(Said::Value), 2 => Just(Said::Unchanged), 1 => Just(Said::Nothing), 1 => Just(Said::Failure),
        1 => Just(Said::Panic),
    ];
    prop_oneof![
        8 => key().prop_map(Step::Get),
        2 => key().prop_map(Step::Set),
        2 => key().prop_map(Step::Delete),
        6 => (any::<Index>(), said).prop_map(|(load, said)| Step::Answer(load, said)),
        1 => any::<Index>().prop_map(Step::Kill),
        1 => any::<Index>().prop_map(Step::Leave),
        1 => any::<Index>().prop_map(Step::Settle),
        2 => prop_oneof![
            Just(Duration::from_millis(100)), Just(NEGATIVE_TTL), Just(TTL / 4), Just(TTL / 2),
            Just(TTL),
        ].prop_map(Step::Advance),
        1 => any::<bool>().prop_map(Step::Own),
    ]
}

/// What the origin's loads are told to say, in the order in which they came.
type Told = Arc<Mutex<Vec<oneshot::Sender<Said>>>>;

/// An origin that says what it is told to. Its values are numbered by its loads, and are their own
/// validators.
struct Scripted {
    told: Told,
    loads: AtomicUsize,
}

impl Scripted {
    /// What the next load says.
    fn next(&self) -> impl Future<Output = Result<(Said, usize), LoadError>> + use<> {
        let (tell, said) = oneshot::channel();
        self.told.lock().unwrap().push(tell);
        let number = self.loads.fetch_add(1, Ordering::SeqCst);
        async move {
            match said.await {
                Ok(Said::Panic) => panic!("on purpose"),
                Ok(Said::Failure) | Err(_) => Err(LoadError::failed("on purpose")),
                Ok(said) => Ok((said, number)),
            }
        }
    }
}

fn value(number: usize) -> Loaded {
    let value = format!("load {number}");
    Loaded { validator: value.clone(), ..Loaded::from(value) }
}

impl Origin for Scripted {
    fn load(&self, _: String) -> Loading {
        let next = self.next();
        Box::pin(async move {
            let (said, number) = next.await?;
            Ok((!matches!(said, Said::Nothing)).then(|| value(number)))
        })
    }

    fn reload(&self, _: String, validator: String) -> Reloading {
        assert!(validator.starts_with("load "), "{validator}");
        let next = self.next();
        Box::pin(async move {
            Ok(match next.await? {
                (Said::Unchanged, _) => Reloaded::Unchanged { ttl: None },
                (Said::Nothing, _) => Reloaded::Anew(None),
                (_, number) => Reloaded::Anew(Some(value(number))),
            })
        })
    }
}

/// A load under way, or one that was.
struct Load {
    key: usize,
    /// The number of the step at which it began.
    began: usize,
    /// Until it is answered.
    told: Option<oneshot::Sender<Said>>,
    task: JoinHandle<()>,
}

struct Reader {
    key: usize,
    began: usize,
    /// What it may be answered if the origin is late.
    instead: Option<Item>,
    outcome: JoinHandle<Outcome>,
}

/// The last write of a key: its step, and the value if it was a set.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    at: usize,
    is_set: bool,
}

struct Bench {
    group: Arc<Group>,
    clock: ManualClock,
    told: Told,
    /// By the number that their values have.
    loads: Vec<Load>,
    readers: Vec<Reader>,
    writes: HashMap<usize, Vec<Last>>,
    owns: bool,
    now: usize,
}

impl Bench {
    fn new() -> Self {
        let told = Told::default();
        let origin = Scripted { told: Arc::clone(&told), loads: AtomicUsize::new(0) };
        let definition = Definition {
            ttl: TTL,
            ttl_jitter: 100,
            // As early as can be: loads take as long as the clock is moved meanwhile.
            early_refresh: 10_000,
            soft_timeout: Duration::from_millis(1),
            negative_ttl: NEGATIVE_TTL,
            stale_while_revalidate: TTL / 2,
            stale_if_error: TTL,
            origin: OriginDefinition::Asked(Asked::new(origin)),
            ..Definition::new(GroupName::new("g").unwrap())
        };
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let group = Group::new(definition, Arc::clone(&shared), HybridClock::new(shared));
        Self {
            group: Arc::new(group),
            clock,
            told,
            loads: Vec::new(),
            readers: Vec::new(),
            writes: HashMap::new(),
            owns: true,
            now: 0,
        }
    }

    /// The last write of a key before a step.
    fn last(&self, key: usize, before: usize) -> Last {
        let writes = self.writes.get(&key).into_iter().flatten();
        writes.rev().find(|write| write.at < before).copied().unwrap_or_default()
    }

    fn wrote(&mut self, key: usize, is_set: bool) {
        self.writes.entry(key).or_default().push(Last { at: self.now, is_set });
    }

    /// That a reader which began at that step may see that value.
    fn check(&self, key: usize, began: usize, item: &Item) -> Result<(), TestCaseError> {
        let value = String::from_utf8(item.entry.value().to_vec()).unwrap();
        let last = self.last(key, began);
        let (kind, number) = value.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        let is_right = match kind {
            "set" => number == last.at && last.is_set,
            _ => self.loads[number].key == key && self.loads[number].began > last.at,
        };
        prop_assert!(is_right, "{} began at {began} and saw {value:?}; {last:?}", KEYS[key]);
        Ok(())
    }

    async fn get(&mut self, key: usize) -> Result<(), TestCaseError> {
        let right = || Ok::<_, Infallible>(Authority::owner(1));
        let found = self.group.get(KEYS[key], self.clock.monotonic(), right).unwrap();
        let mut waiting = match found {
            Found::Hit(item) | Found::Stale(item) => return self.check(key, self.now, &item),
            Found::Absent | Found::Failed(_) => return Ok(()),
            Found::Waiting(waiting) => waiting,
            Found::Loaded(item) => panic!("no such origin: {item:?}"),
        };
        if let Some(stale) = waiting.stale() {
            // Old it may be, but not written over.
            self.check(key, self.now, &stale.item)?;
        }
        let instead = waiting.stale().filter(|stale| stale.on_error).map(|it| it.item.clone());
        if let Some(ticket) = waiting.take_ticket() {
            let last = self.last(key, self.now);
            let same = |load: &&Load| load.key == key && load.began > last.at;
            let others = self.loads.iter().filter(same).filter(|load| !load.task.is_finished());
            prop_assert_eq!(others.count(), 0, "a second load of {}", KEYS[key]);
            let (group, owns) = (Arc::clone(&self.group), self.owns);
            let right = move || owns.then(|| Authority::owner(1));
            let task = tokio::spawn(async move { group.load(ticket, right).await });
            settle().await;
            let told = self.told.lock().unwrap().pop();
            self.loads.push(Load { key, began: self.now, told, task });
        }
        let outcome = tokio::spawn(waiting.outcome());
        self.readers.push(Reader { key, began: self.now, instead, outcome });
        Ok(())
    }

    fn set(&mut self, key: usize) {
        let value = format!("set {}", self.now);
        let write = Write { key: KEYS[key], value: value.as_bytes(), ..Write::default() };
        self.group.set(&write, || Ok::<_, Error>(Authority::owner(1))).unwrap();
        self.wrote(key, true);
    }

    fn delete(&mut self, key: usize) {
        let delete = Delete { key: KEYS[key], ..Delete::default() };
        let deleted = self.group.delete(&delete, || Ok::<_, Error>(Authority::owner(1)));
        assert!(deleted.is_ok() || deleted.is_err_and(|error| error.code() == Code::NotFound));
        self.wrote(key, false);
    }

    /// One of the loads that are not answered.
    fn open(&mut self, which: Index) -> Option<&mut Load> {
        let mut open: Vec<_> = self.loads.iter_mut().filter(|it| it.told.is_some()).collect();
        (!open.is_empty()).then(|| open.swap_remove(which.index(open.len())))
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now += 1;
        match step {
            Step::Get(key) => self.get(key).await?,
            Step::Set(key) => self.set(key),
            Step::Delete(key) => self.delete(key),
            Step::Answer(which, said) => {
                if let Some(load) = self.open(which) {
                    load.told.take().unwrap().send(said).unwrap();
                }
            }
            Step::Kill(which) => {
                if let Some(load) = self.open(which) {
                    load.told = None;
                    load.task.abort();
                }
            }
            Step::Leave(which) if !self.readers.is_empty() => {
                let which = which.index(self.readers.len());
                self.readers.swap_remove(which).outcome.abort();
            }
            Step::Settle(which) if !self.readers.is_empty() => {
                let which = which.index(self.readers.len());
                if self.readers[which].instead.is_some() {
                    let reader = self.readers.swap_remove(which);
                    self.check(reader.key, reader.began, &reader.instead.unwrap())?;
                }
            }
            Step::Leave(_) | Step::Settle(_) => {}
            Step::Advance(by) => self.clock.advance(by),
            Step::Own(owns) => self.owns = owns,
        }
        settle().await;
        self.hear().await
    }

    /// Checks what those got who have their answer.
    async fn hear(&mut self) -> Result<(), TestCaseError> {
        let (heard, waiting) = std::mem::take(&mut self.readers)
            .into_iter()
            .partition(|reader| reader.outcome.is_finished());
        self.readers = waiting;
        for Reader { key, began, outcome, .. } in heard {
            if let Outcome::Loaded(item) = outcome.await.unwrap() {
                self.check(key, began, &item)?;
            }
        }
        Ok(())
    }

    /// All loads end: nobody is left waiting.
    async fn end(mut self) -> Result<(), TestCaseError> {
        for load in &mut self.loads {
            load.told = None;
        }
        settle().await;
        self.hear().await?;
        prop_assert_eq!(self.readers.len(), 0, "readers wait for nothing");
        prop_assert!(self.loads.iter().all(|load| load.task.is_finished()));
        Ok(())
    }
}

async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn loads_keep_their_promises(steps in vec(step(), 1..60)) {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            for step in steps {
                bench.step(step).await?;
            }
            bench.end().await
        })?;
    }
}

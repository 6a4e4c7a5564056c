//! Where a missing value is loaded from.
//!
//! Either a table in the configuration, which answers at once, or something that is asked: it takes
//! its time, and may fail, hang or panic. When it is asked, for how long, and what becomes of its
//! answer is the group's business.

pub mod fixed;
pub(crate) mod http;
pub(crate) mod opendal;
mod secrets;
#[cfg_attr(not(feature = "sql"), path = "origin/without_sql.rs")]
pub(crate) mod sql;

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    config::{LOAD_TIMEOUT, MAX_LOADS},
    error::{Code, Error},
};
use tokio::sync::Semaphore;

use self::fixed::Fixed;

/// An origin that is asked.
pub trait Origin: Send + Sync + 'static {
    /// Asks for the value of `key`; `None`: there is none. An empty value is a value.
    fn load(&self, key: String) -> Loading;

    /// Asks whether the value of `key` that came with this [validator](Loaded::validator) is still true.
    /// Whoever can't tell loads it.
    fn reload(&self, key: String, validator: String) -> Reloading {
        let _ = validator;
        let load = self.load(key);
        Box::pin(async move { load.await.map(Reloaded::Anew) })
    }
}

/// What an origin does for one key.
pub type Loading = Pin<Box<dyn Future<Output = Result<Option<Loaded>, LoadError>> + Send>>;

impl<F, L> Origin for F
where
    F: Fn(String) -> L + Send + Sync + 'static,
    L: Future<Output = Result<Option<Loaded>, LoadError>> + Send + 'static,
{
    fn load(&self, key: String) -> Loading {
        Box::pin(self(key))
    }
}

/// What an origin does for a key of which there is a value.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Reloaded, LoadError>> + Send>>;

/// What became of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// It is still true.
    Unchanged {
        /// How long it stays so, as in [`Loaded::ttl`].
        ttl: Option<Duration>,
    },
    /// There is another one, the same, or none.
    Anew(Option<Loaded>),
}

/// A value as its origin has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The value; copied when it is stored.
    pub value: Bytes,
    /// Its content type; empty: `application/octet-stream`.
    pub content_type: String,
    /// Its tags, as [`common::tags`] keeps them; with others it is answered and not kept.
    pub tags: String,
    /// By what its origin can tell whether it is still true, up to 255 bytes; empty: it can't.
    pub validator: String,
    /// How long it stays true; `None`: as long as the group says; zero: it is not kept.
    pub ttl: Option<Duration>,
}

impl<T: Into<Bytes>> From<T> for Loaded {
    fn from(value: T) -> Self {
        Self { value: value.into(), ..Self::default() }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It failed, or answered with something that is no value. The text may be shown to anyone.
    #[error("the origin failed: {0}")]
    Failed(String),
    /// It did not answer in time.
    #[error("the origin did not answer in time")]
    TimedOut,
    /// A key for which it must not be asked.
    #[error("the origin can't be asked for such a key")]
    Refused,
    /// It panicked.
    #[error("the origin panicked")]
    Panicked,
}

impl LoadError {
    /// A failure in those words.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        let code = match error {
            LoadError::TimedOut => Code::Timeout,
            LoadError::Refused => Code::InvalidRequest,
            LoadError::Failed(_) | LoadError::Panicked => Code::OriginError,
        };
        Self::new(code, error.to_string())
    }
}

/// An origin that is asked, and how hard.
#[derive(Clone)]
pub struct Asked {
    /// What it is, in a word.
    pub kind: &'static str,
    /// Whom to ask.
    pub origin: Arc<dyn Origin>,
    /// How long a load may take, the wait for its turn included.
    pub timeout: Duration,
    /// Loads at a time.
    pub max_loads: usize,
}

impl Asked {
    /// One of a program's own, asked with the usual patience.
    pub fn new(origin: impl Origin) -> Self {
        let (timeout, max_loads) = (LOAD_TIMEOUT, MAX_LOADS);
        Self { kind: "custom", origin: Arc::new(origin), timeout, max_loads }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, timeout, max_loads, .. } = self;
        let mut shown = f.debug_struct("Asked");
        shown
            .field("kind", kind)
            .field("timeout", timeout)
            .field("max_loads", max_loads)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        let limits = |it: &Self| (it.timeout, it.max_loads);
        Arc::ptr_eq(&self.origin, &other.origin) && limits(self) == limits(other)
    }
}

impl Eq for Asked {}

/// The origin of a group, as it is defined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OriginDefinition {
    /// What is missing stays missing.
    #[default]
    None,
    /// Kind `static`: a table of key → text.
    Static(BTreeMap<String, String>),
    /// Something that takes its time.
    Asked(Asked),
}

impl OriginDefinition {
    /// The kind as it is written in a configuration; empty for none.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Static(_) => "static",
            Self::Asked(asked) => asked.kind,
        }
    }

    pub(crate) fn supply(&self) -> Supply {
        match self {
            Self::None => Supply::None,
            Self::Static(values) => Supply::Fixed(Arc::new(Fixed::new(values))),
            Self::Asked(asked) => Supply::Asked(Arc::new(Source::new(asked))),
        }
    }
}

/// The origin of a group, at work.
#[derive(Debug, Clone)]
pub(crate) enum Supply {
    None,
    Fixed(Arc<Fixed>),
    Asked(Arc<Source>),
}

/// An origin that is asked, and the loads that have their turn.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) asked: Asked,
    pub(crate) turns: Semaphore,
}

impl Source {
    fn new(asked: &Asked) -> Self {
        Self { turns: Semaphore::new(asked.max_loads), asked: asked.clone() }
    }
}

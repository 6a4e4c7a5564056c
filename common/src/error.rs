//! One closed set of error codes, with what each means to gRPC and to HTTP.
//!
//! An [`Error`] carries a code for programs and a message for people outside; what is only for the
//! log is the source. Whether a request may be tried again is not derived from the code: that
//! depends on whether it can have been executed, and is `route`'s business.

mod grpc;
mod http;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::key::NameError;

/// How an operation failed. Closed: a dialect may rename a code, never add one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is malformed.
    InvalidRequest,
    /// No or a wrong API key.
    Unauthorized,
    /// The API key does not reach that far.
    Forbidden,
    /// The group has no such key.
    NotFound,
    /// No such group.
    GroupNotFound,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The load token of a write does not count any more.
    LeaseLost,
    /// The value is larger than the group takes.
    TooLarge,
    /// The request line is longer than the gateway takes.
    UriTooLong,
    /// The content type is not one the endpoint takes.
    UnsupportedMedia,
    /// The caller sends more than it may.
    RateLimited,
    /// The origin failed.
    OriginError,
    /// The owner and its stand-ins can't be reached.
    NodeUnavailable,
    /// The cluster has no nodes, as far as this process knows.
    NoNodes,
    /// A queue or budget is full.
    Overloaded,
    /// The deadline passed; the outcome of a write is unknown.
    Timeout,
    /// No room on a durable group's disk.
    StorageFull,
    /// The peer does not know the operation.
    Unsupported,
    /// A mistake of ours.
    Internal,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 19] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::GroupNotFound,
        Self::PreconditionFailed,
        Self::LeaseLost,
        Self::TooLarge,
        Self::UriTooLong,
        Self::UnsupportedMedia,
        Self::RateLimited,
        Self::OriginError,
        Self::NodeUnavailable,
        Self::NoNodes,
        Self::Overloaded,
        Self::Timeout,
        Self::StorageFull,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The code's name in JSON, metrics and gRPC details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::GroupNotFound => "group_not_found",
            Self::PreconditionFailed => "precondition_failed",
            Self::LeaseLost => "lease_lost",
            Self::TooLarge => "too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedMedia => "unsupported_media",
            Self::RateLimited => "rate_limited",
            Self::OriginError => "origin_error",
            Self::NodeUnavailable => "node_unavailable",
            Self::NoNodes => "no_nodes",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::StorageFull => "storage_full",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// The code of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation.
#[derive(Debug, Clone)]
pub struct Error {
    code: Code,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message that may be shown to anyone.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, source: None }
    }

    /// The same error, saying when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same error, with what caused it. For the log only.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What went wrong, for programs.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When to try again, where that is known.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::new(Code::InvalidRequest, error.to_string())
    }
}

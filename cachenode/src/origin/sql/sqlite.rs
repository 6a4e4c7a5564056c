//! SQLite: a file that is opened for reading only, each connection a thread of its own.
//!
//! A statement that runs for longer than a load may take is interrupted, as nothing else would: whoever
//! waited for it has gone by then.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Decode, Row, Sqlite as Db, SqliteConnection, TypeInfo, ValueRef,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{Database, LoadError, Loaded, PREPARED, Trouble, only, unknown_type, value};
use crate::origin::fixed::TEXT;

/// From look to look at the time, in steps of SQLite's machine: a millisecond or so.
const STEPS: i32 = 10_000;

/// SQLITE_INTERRUPT: the time was over.
const INTERRUPTED: &str = "9";

pub(super) struct Sqlite {
    options: SqliteConnectOptions,
    query: Arc<str>,
    timeout: Duration,
    max_value: usize,
}

impl Sqlite {
    /// # Errors
    /// There is no such file.
    pub(super) fn new(
        file: &Path,
        query: Arc<str>,
        timeout: Duration,
        max_value: usize,
    ) -> Result<Self, String> {
        // SQLite tells so at the first load only, and of a directory in words that mean nothing.
        let found = std::fs::metadata(file);
        if !found.map_err(|error| format!("{}: {error}", file.display()))?.is_file() {
            return Err(format!("{} is no file", file.display()));
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .pragma("query_only", "on")
            .busy_timeout(timeout)
            .statement_cache_capacity(PREPARED)
            .disable_statement_logging();
        Ok(Self { options, query, timeout, max_value })
    }
}

/// A connection, and until when what it does is wanted.
pub(super) struct Watched {
    connection: SqliteConnection,
    deadline: Arc<Deadline>,
}

/// A moment that another thread looks at.
struct Deadline {
    origin: Instant,
    millis: AtomicU64,
}

impl Deadline {
    fn new() -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), millis: AtomicU64::new(u64::MAX) })
    }

    fn is_in(&self, span: Duration) {
        let millis = (self.origin.elapsed() + span).as_millis();
        self.millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_to_come(&self) -> bool {
        self.origin.elapsed().as_millis() < u128::from(self.millis.load(Ordering::Relaxed))
    }
}

impl Database for Sqlite {
    type Connection = Watched;

    async fn connect(&self) -> Result<Watched, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let deadline = Deadline::new();
        let seen = Arc::clone(&deadline);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || seen.is_to_come());
        Ok(Watched { connection, deadline })
    }

    async fn ask(&self, watched: &mut Watched, key: String) -> Result<Option<Loaded>, Trouble> {
        watched.deadline.is_in(self.timeout);
        let query = sqlx::query::<Db>(AssertSqlSafe(Arc::clone(&self.query))).bind(key);
        match only(query.fetch(&mut watched.connection)).await? {
            Some(row) => read(&row, self.max_value),
            None => Ok(None),
        }
    }

    fn meaning(code: &str) -> Option<LoadError> {
        (code == INTERRUPTED).then_some(LoadError::TimedOut)
    }
}

/// The value of a row, by what it is, whatever its column was made for. NULL is none.
fn read(row: &SqliteRow, max_value: usize) -> Result<Option<Loaded>, Trouble> {
    let raw = row.try_get_raw(0)?;
    if raw.is_null() {
        return Ok(None);
    }
    let name = raw.type_info().name().to_owned();
    let decoded = match name.as_str() {
        "TEXT" | "BLOB" => {
            let content_type = if name == "TEXT" { TEXT } else { "" };
            let bytes = <&[u8] as Decode<Db>>::decode(raw).map_err(sqlx::Error::Decode)?;
            return value(bytes, content_type, max_value);
        }
        "INTEGER" => <i64 as Decode<Db>>::decode(raw).map(|number| number.to_string()),
        "REAL" => <f64 as Decode<Db>>::decode(raw).map(|number| number.to_string()),
        other => return Err(unknown_type(other)),
    };
    value(decoded.map_err(sqlx::Error::Decode)?, TEXT, max_value)
}

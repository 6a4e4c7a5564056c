//! PostgreSQL: sessions that only read, and values in the text that the database would give them.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Decode, PgConnection, Postgres as Db, Row, TypeInfo, ValueRef,
    postgres::{PgConnectOptions, PgRow, PgValueRef},
};
use uuid::Uuid;

use super::{Database, LoadError, Loaded, PREPARED, Trouble, only, unknown_type, value};
use crate::origin::fixed::TEXT;

/// What a text is that the database wants as a number, a date and so on: its class of data exceptions.
const NO_KEY: &str = "22";
/// A statement that took longer than `statement_timeout`.
const CANCELED: &str = "57014";

pub(super) struct Postgres {
    options: PgConnectOptions,
    query: Arc<str>,
    max_value: usize,
}

impl Postgres {
    /// # Errors
    /// Why the URL is none; nothing of what is in it.
    pub(super) fn new(
        url: &str,
        query: Arc<str>,
        timeout: Duration,
        max_value: usize,
    ) -> Result<Self, String> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| "this is no URL of a PostgreSQL database".to_owned())?;
        let named = options.get_application_name().is_some();
        let options = if named { options } else { options.application_name("ringway") };
        let timeout = timeout.as_millis().to_string();
        let options = options
            .options([
                ("default_transaction_read_only", "on"),
                ("statement_timeout", timeout.as_str()),
            ])
            .statement_cache_capacity(PREPARED)
            .disable_statement_logging();
        Ok(Self { options, query, max_value })
    }
}

impl Database for Postgres {
    type Connection = PgConnection;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    async fn ask(
        &self,
        connection: &mut PgConnection,
        key: String,
    ) -> Result<Option<Loaded>, Trouble> {
        let query = sqlx::query::<Db>(AssertSqlSafe(Arc::clone(&self.query))).bind(key);
        match only(query.fetch(connection)).await? {
            Some(row) => read(&row, self.max_value),
            None => Ok(None),
        }
    }

    fn meaning(code: &str) -> Option<LoadError> {
        match code {
            CANCELED => Some(LoadError::TimedOut),
            _ => code.starts_with(NO_KEY).then_some(LoadError::Refused),
        }
    }
}

/// The value of a row. NULL is none.
fn read(row: &PgRow, max_value: usize) -> Result<Option<Loaded>, Trouble> {
    let raw = row.try_get_raw(0)?;
    if raw.is_null() {
        return Ok(None);
    }
    let name = raw.type_info().name().to_owned();
    match name.as_str() {
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" => value(bytes(&raw)?, TEXT, max_value),
        "JSON" => value(bytes(&raw)?, "application/json", max_value),
        // After the number of the format's version.
        "JSONB" => value(bytes(&raw)?.get(1..).unwrap_or_default(), "application/json", max_value),
        "BYTEA" => value(bytes(&raw)?, "", max_value),
        "UUID" => match Uuid::from_slice(bytes(&raw)?) {
            Ok(id) => value(id.to_string(), TEXT, max_value),
            Err(_) => Err(unknown_type("UUID")),
        },
        other => match text(other, raw) {
            Some(text) => value(text.map_err(sqlx::Error::Decode)?, TEXT, max_value),
            None => Err(unknown_type(other)),
        },
    }
}

fn bytes<'r>(raw: &PgValueRef<'r>) -> Result<&'r [u8], sqlx::Error> {
    raw.as_bytes().map_err(sqlx::Error::Decode)
}

/// What the database would write for a value of a type that has few of them.
fn text(name: &str, raw: PgValueRef<'_>) -> Option<Result<String, sqlx::error::BoxDynError>> {
    fn shown<'r, T: Decode<'r, Db> + ToString>(
        raw: PgValueRef<'r>,
    ) -> Result<String, sqlx::error::BoxDynError> {
        T::decode(raw).map(|value| value.to_string())
    }
    Some(match name {
        "BOOL" => shown::<bool>(raw),
        "INT2" => shown::<i16>(raw),
        "INT4" => shown::<i32>(raw),
        "INT8" => shown::<i64>(raw),
        "FLOAT4" => shown::<f32>(raw),
        "FLOAT8" => shown::<f64>(raw),
        _ => return None,
    })
}

//! The origin of kind `sql`: a database that is asked with one query, the key as its parameter.
//!
//! The query is the operator's and always the same; a key is bound and never part of it. Connections
//! only read. There are as many of them as loads at a time, and none while nobody asks. A value is
//! read whole before its size is judged: neither database gives a part of one.

mod connections;
mod postgres;
mod sqlite;

use std::{sync::Arc, time::Duration};

use common::config::{self, SqlSettings, check_sql};
use futures_util::{Stream, TryStreamExt};
use sqlx::Row;
use tokio::time::timeout;

use self::{connections::Connections, postgres::Postgres, sqlite::Sqlite};
use super::{LoadError, Loaded, Loading, Origin, secrets};

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// A statement stays prepared on its connection: there is only the one.
const PREPARED: usize = 1;

/// A database, as the origin of a group asks it.
trait Database: Send + Sync + 'static {
    type Connection: Send + 'static;

    fn connect(&self) -> impl Future<Output = Result<Self::Connection, sqlx::Error>> + Send;

    /// Asks for a key's value.
    fn ask(
        &self,
        connection: &mut Self::Connection,
        key: String,
    ) -> impl Future<Output = Result<Option<Loaded>, Trouble>> + Send;

    /// What an error of the database says of the load, unless it is a failure like others.
    fn meaning(code: &str) -> Option<LoadError>;
}

/// Why a database gave no value.
#[derive(Debug)]
enum Trouble {
    Sql(sqlx::Error),
    /// It answered, with something that is no value.
    Unusable(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// Whether the connection is of no use any more, whatever was asked.
    fn is_lost(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                // PostgreSQL's class of those who are shown the door; and what it says of a statement that
                // was prepared for a table as it was before: it would say so again every time.
                error.code().is_some_and(|code| {
                    code.starts_with("57P") || matches!(&*code, "0A000" | "26000")
                })
            }
            Self::Sql(_) => true,
            Self::Unusable(_) => false,
        }
    }

    /// What is told of it: no text of the database's, which may hold what is in it.
    fn told<D: Database>(&self) -> LoadError {
        tracing::debug!(error = ?self, "an origin failed");
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                let text = || LoadError::Failed(format!("the database answered error {code}"));
                D::meaning(&code).unwrap_or_else(text)
            }
            Self::Sql(sqlx::Error::Io(error)) => {
                LoadError::Failed(format!("the database can't be reached: {error}"))
            }
            Self::Sql(_) => LoadError::failed("the database can't be spoken to"),
            Self::Unusable(why) => LoadError::Failed(why.clone()),
        }
    }
}

/// Builds the origin that settings speak of.
///
/// # Errors
/// What can't be, for people: a variable that is not set, a URL or a query that is none, a file of
/// SQLite that is not there.
pub(crate) fn origin(settings: &SqlSettings, max_value: u64) -> Result<Arc<dyn Origin>, String> {
    let in_url = |why: String| format!("origin.url: {why}");
    let url = secrets::filled(&settings.url).map_err(in_url)?;
    let in_url = |why: String| if url == settings.url { in_url(why) } else { in_filled_url() };
    let query: Arc<str> = settings.query.as_str().into();
    let max_value = usize::try_from(max_value).unwrap_or(usize::MAX);
    let checked = check_sql(&url, &query).map_err(|(field, why)| match field {
        "url" => in_url(why),
        field => format!("origin.{field}: {why}"),
    });
    Ok(match checked? {
        Some(config::Database::Sqlite(file)) => {
            let sqlite = Sqlite::new(&file, query, settings.timeout, max_value);
            Arc::new(Sql::new(sqlite.map_err(in_url)?, settings.max_loads))
        }
        Some(config::Database::Postgres) => {
            let postgres = Postgres::new(&url, query, settings.timeout, max_value);
            Arc::new(Sql::new(postgres.map_err(in_url)?, settings.max_loads))
        }
        None => return Err("origin.url: the variable holds the name of another one".to_owned()),
    })
}

/// What is wrong with a URL that holds what variables hold: nothing of that is told.
fn in_filled_url() -> String {
    "origin.url: with its variables filled in it can't be used; in a password '/', '?', '#', '@' and '%' \
     are percent-encoded, and a file has to be there"
        .to_owned()
}

/// A database, and the connections to it.
struct Sql<D: Database>(Arc<Asked<D>>);

struct Asked<D: Database> {
    database: D,
    connections: Arc<Connections<D::Connection>>,
}

impl<D: Database> Sql<D> {
    fn new(database: D, max_loads: usize) -> Self {
        Self(Arc::new(Asked { database, connections: Arc::new(Connections::new(max_loads)) }))
    }
}

impl<D: Database> Origin for Sql<D> {
    fn load(&self, key: String) -> Loading {
        let asked = Arc::clone(&self.0);
        // If this is given up, so is its connection: there is an answer on its way that nobody wants.
        Box::pin(async move { asked.load(key).await.map_err(|trouble| trouble.told::<D>()) })
    }
}

impl<D: Database> Asked<D> {
    async fn load(&self, key: String) -> Result<Option<Loaded>, Trouble> {
        if let Some(connection) = self.connections.take() {
            match self.ask(connection, key.clone()).await {
                // The database was restarted meanwhile: what else was kept is lost as well. It may be
                // asked again, since nothing but reading is done.
                Err(trouble) if trouble.is_lost() => self.connections.forget(),
                answer => return answer,
            }
        }
        let connecting = timeout(CONNECT_TIME, self.database.connect());
        let connection = connecting.await.unwrap_or_else(|_| {
            Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        })?;
        self.ask(connection, key).await
    }

    async fn ask(
        &self,
        mut connection: D::Connection,
        key: String,
    ) -> Result<Option<Loaded>, Trouble> {
        let answer = self.database.ask(&mut connection, key).await;
        // An answer that was not read to its end would be in the next one's way.
        let is_through = match &answer {
            Ok(_) => true,
            Err(trouble @ Trouble::Sql(_)) => !trouble.is_lost(),
            Err(Trouble::Unusable(_)) => false,
        };
        if is_through {
            self.connections.give_back(connection);
        }
        answer
    }
}

/// The only row of an answer, if there is one.
async fn only<R: Row>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
) -> Result<Option<R>, Trouble> {
    let Some(row) = rows.try_next().await? else { return Ok(None) };
    if row.len() != 1 {
        let text = format!("the query gives {} columns, not one", row.len());
        return Err(Trouble::Unusable(text));
    }
    match rows.try_next().await? {
        None => Ok(Some(row)),
        Some(_) => Err(Trouble::Unusable("the query gives several rows for the key".to_owned())),
    }
}

/// A value of that type, unless it is too large.
fn value(
    bytes: impl Into<Vec<u8>> + AsRef<[u8]>,
    content_type: &str,
    max_value: usize,
) -> Result<Option<Loaded>, Trouble> {
    if bytes.as_ref().len() > max_value {
        return Err(Trouble::Unusable(format!("its value is over {max_value} bytes")));
    }
    let content_type = content_type.to_owned();
    Ok(Some(Loaded { content_type, ..Loaded::from(bytes.into()) }))
}

/// A type that has no text of its own here.
fn unknown_type(name: &str) -> Trouble {
    Trouble::Unusable(format!("the query gives a {name}: let it give a text, CAST(… AS text)"))
}

//! SlowDB, where the values of `make demo` are: a file of SQLite and a server over HTTP, both slow.
//!
//! The server sleeps. SQLite can't: it counts, as far as takes that long on the machine at hand.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

/// How long an answer takes.
pub const ANSWERS_AFTER: Duration = Duration::from_millis(300);
/// How far SQLite counts to see how fast it is.
const TRIED_STEPS: u32 = 100_000;

const CONFIG: &str = include_str!("../../deploy/demo/ringway.toml");
const USERS: &str = include_str!("../../deploy/demo/users.sql");

/// Why there is no SlowDB.
#[derive(Debug, thiserror::Error)]
pub enum SlowDbError {
    /// No directory or port for it.
    #[error("no place for SlowDB: {0}")]
    Place(#[from] io::Error),
    /// SQLite failed.
    #[error("SQLite: {0}")]
    Sql(#[from] sqlx::Error),
}

/// Both of them. Dropping it removes the file.
#[derive(Debug)]
pub struct SlowDb {
    dir: TempDir,
    steps: u32,
    server: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl SlowDb {
    /// Makes the file, finds out how fast SQLite counts, and serves.
    ///
    /// # Errors
    /// [`SlowDbError`]
    pub async fn start() -> Result<Self, SlowDbError> {
        let dir = tempfile::Builder::new().prefix("ringway-demo-").tempdir()?;
        let steps = make(&dir.path().join("users.db")).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (server, served) = (listener.local_addr()?, Arc::<AtomicUsize>::default());
        let app = Router::new().route("/pages/{page}", get(page)).with_state(Arc::clone(&served));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { dir, steps, server, served })
    }

    /// The configuration of a fleet whose groups it is the origin of.
    pub fn config(&self) -> String {
        let file = self.dir.path().join("users.db").display().to_string();
        CONFIG
            .replace("FILE", &file)
            .replace("SERVER", &self.server.to_string())
            .replace("STEPS", &self.steps.to_string())
    }

    /// The directory of its file, where there is room for others.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// How far SQLite counts before it answers.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// How often the server was asked.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// The answer of the server.
async fn page(State(served): State<Arc<AtomicUsize>>, Path(page): Path<String>) -> String {
    served.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(ANSWERS_AFTER).await;
    format!("the page {page}")
}

/// Makes a file, and returns how far SQLite counts in it in that time.
async fn make(file: &std::path::Path) -> Result<u32, SlowDbError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::raw_sql(USERS).execute(&mut connection).await?;
    let counting = format!(
        "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count \
         WHERE n < {TRIED_STEPS}) SELECT max(n) FROM count"
    );
    let began = Instant::now();
    sqlx::query(AssertSqlSafe(counting)).fetch_one(&mut connection).await?;
    let took = began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok((f64::from(TRIED_STEPS) * ANSWERS_AFTER.as_secs_f64() / took) as u32)
}

//! A PostgreSQL of the test's own: a child process with a directory that goes away with it.
//!
//! It listens on a socket in that directory and nowhere else, and asks for a password. As root it
//! runs as `nobody`, since it refuses to run as root. What it was asked is read off its log.

use std::{
    fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::geteuid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    process::{Process, ProcessError, Spec},
    tools::{self, MissingTool},
};

/// The password of its user, who is called `app`, as is its database.
pub const PASSWORD: &str = "sesame/5353";

/// Debian's user and group for those who own nothing.
const NOBODY: u32 = 65_534;
/// How long making the files of an empty database may take.
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until it can be asked.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The program is missing.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// No directory for it.
    #[error("no place for PostgreSQL: {0}")]
    Place(#[from] io::Error),
    /// It did not start, or died.
    #[error(
        "{0}\n(as root it is run as `nobody`, who has to be able to read this repository's \
         target/tools; as another user it is run as that)"
    )]
    Process(#[from] ProcessError),
    /// It did not do what it was told.
    #[error("PostgreSQL: {0}")]
    Sql(#[from] sqlx::Error),
}

/// A running (or killed) PostgreSQL. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    program: PathBuf,
    // Declared before `dir`: the process ends before its data goes.
    process: Option<Process>,
    dir: TempDir,
}

impl Postgres {
    /// Starts one with an empty database, and waits until it can be asked.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn start() -> Result<Self, PostgresError> {
        let dir = tempfile::Builder::new().prefix("ringway-postgres-").tempdir()?;
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD)?;
        if geteuid().is_root() {
            for path in [dir.path(), &password] {
                chown(path, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let making = Spec::new("initdb", tools::find("initdb")?)
            .args(["--username=app", "--auth=scram-sha-256", "--no-sync", "--no-locale"])
            .args(["--encoding=UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(dir.path().join("data"));
        let making = Process::start(&as_ordinary_user(making), dir.path())?;
        let made = making.wait(MADE_WITHIN).await?;
        if !made.success() {
            // It has ended: this never finds a line, and tells the last ones.
            making.wait_for_line("success", MADE_WITHIN, |_| false).await?;
        }
        let mut postgres = Self { program: tools::find("postgres")?, process: None, dir };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// Starts it again with what it had, and waits until it can be asked.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        self.process = None;
        let spec = Spec::new("postgres", &self.program)
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_statement=all"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.dir.path().display()));
        let process = Process::start(&as_ordinary_user(spec), self.dir.path())?;
        let is_alive = eventually("PostgreSQL answers", READY_WITHIN, async || {
            if process.ended().is_some() {
                return Ok(false);
            }
            PgConnection::connect(&self.url()).await.map(|_| true)
        })
        .await;
        if !is_alive {
            process.wait_for_line("reason", READY_WITHIN, |_| false).await?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills it with SIGKILL, as a crash would. Harmless when it is down.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        self.url_with(&PASSWORD.replace('/', "%2F"))
    }

    /// Its URL, with a password as it stands in a URL, or what stands for one.
    pub fn url_with(&self, password: &str) -> String {
        format!("postgres://app:{password}@localhost/postgres?host={}", self.dir.path().display())
    }

    /// Does statements that give nothing.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub async fn execute(&self, statements: &str) -> Result<(), PostgresError> {
        let mut connection = PgConnection::connect(&self.url()).await?;
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// How many lines of its log hold that text: every statement is one.
    ///
    /// # Errors
    /// [`PostgresError`]
    pub fn logged(&self, text: &str) -> Result<usize, PostgresError> {
        let log = fs::read_to_string(log(self.dir.path()))?;
        Ok(log.lines().filter(|line| line.contains(text)).count())
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("postgres.log")
}

/// The same, by somebody else if we are root.
fn as_ordinary_user(spec: Spec) -> Spec {
    if !geteuid().is_root() {
        return spec;
    }
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    spec.through("setpriv", [user.as_str(), &group, "--clear-groups"])
}

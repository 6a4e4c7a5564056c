//! A redis of the test's own: a child process on a free port that keeps nothing on disk.
//!
//! What is stored in it, and what it counts, is asked in its own protocol, as far as that is needed.

use std::{io, net::SocketAddr, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    etcd::free_address,
    process::{Process, ProcessError, Spec},
    tools::{self, MissingTool},
};

/// How long it may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often starting is tried when somebody took the port in between.
const START_TRIES: u32 = 5;

/// Why there is no redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The program is missing.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// No directory or port for it, or it can't be spoken to.
    #[error("redis: {0}")]
    Io(#[from] io::Error),
    /// It did not start, or died.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A running redis. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    process: Process,
    _dir: TempDir,
}

impl Redis {
    /// Starts one, with a password if that is not empty, and waits until it listens.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn start(password: &str) -> Result<Self, RedisError> {
        for _ in 1..START_TRIES {
            match Self::start_once(password).await {
                Err(RedisError::Process(ProcessError::Ended { .. })) => {}
                done => return done,
            }
        }
        Self::start_once(password).await
    }

    async fn start_once(password: &str) -> Result<Self, RedisError> {
        let (dir, address) = (tempfile::tempdir()?, free_address()?);
        let spec = Spec::new("redis", tools::find("redis-server")?)
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--requirepass", password, "--dir"])
            .arg(dir.path());
        let process = Process::start(&spec, dir.path())?;
        let ready = "Ready to accept connections";
        process.wait_for_line(ready, READY_WITHIN, |line| line.contains(ready)).await?;
        Ok(Self { address, process, _dir: dir })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, to be stopped and killed.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Says something to it, and returns the answer: a text whole, of anything else the first line.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn say(&self, password: &str, words: &[&str]) -> Result<String, RedisError> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
        if !password.is_empty() {
            said(&mut stream, &["AUTH", password]).await?;
        }
        said(&mut stream, words).await
    }
}

async fn said(stream: &mut BufReader<TcpStream>, words: &[&str]) -> Result<String, RedisError> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.get_mut().write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let Some(length) = line.trim_end().strip_prefix('$').and_then(|it| it.parse().ok()) else {
        return Ok(line.trim_end().to_owned());
    };
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

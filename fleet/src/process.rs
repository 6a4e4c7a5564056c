//! A child process under test: started, listened to, signalled, and never left behind.
//!
//! Works without a runtime of its own: a thread reads the output, so a [`Process`] may be dropped
//! anywhere. It knows nothing of what the program does. If the harness itself is killed with
//! SIGKILL its children stay; everything short of that ends them.

mod build;
mod output;

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use tokio::time::{Instant, sleep, timeout};

pub use build::{BuildError, binary};
use output::Output;
pub use rustix::process::Signal;

/// How often [`Process::wait`] asks whether the child has ended.
const WAIT_STEP: Duration = Duration::from_millis(5);

/// How long after a child's end its last output is waited for. A grandchild may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many lines an error, or a failing test, shows.
const SHOWN_LINES: usize = 40;

/// What is not handed down from the harness's own environment: a developer's settings must not
/// reach the servers under test, nor etcd.
const HIDDEN_PREFIXES: [&str; 2] = ["RINGWAY_", "ETCD_"];

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Spec {
    /// A program; `name` is what messages and the log file call it.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment. `RINGWAY_*` and `ETCD_*` of the harness are not handed down.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The same, started by another program: `program args… this its args…`.
    #[must_use]
    pub(crate) fn through(
        &self,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let mut outer = Self::new(&self.name, program).args(args).arg(&self.program);
        outer.args.extend(self.args.iter().cloned());
        outer.env.clone_from(&self.env);
        outer
    }

    /// The command, without those of the `inherited` variables that are not handed down.
    fn command(&self, inherited: impl IntoIterator<Item = OsString>) -> Command {
        let mut command = Command::new(&self.program);
        for name in inherited {
            let text = name.to_string_lossy();
            if HIDDEN_PREFIXES.iter().any(|hidden| text.starts_with(hidden)) {
                command.env_remove(&name);
            }
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// What can go wrong with a child.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started or signalled.
    #[error("{name}: {what}: {source}")]
    System {
        /// The process's name.
        name: String,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended when it was still needed.
    #[error("{name} has ended; its last lines:\n{lines}")]
    Ended {
        /// The process's name.
        name: String,
        /// The end of its output.
        lines: String,
    },
    /// It did not do in time what was awaited.
    #[error("{name}: no {awaited} within {within:?}; its last lines:\n{lines}")]
    Late {
        /// The process's name.
        name: String,
        /// What was awaited.
        awaited: String,
        /// How long.
        within: Duration,
        /// The end of its output.
        lines: String,
    },
}

/// A running (or ended) child. Dropping it kills it with SIGKILL and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    output: Arc<Output>,
    log: PathBuf,
}

impl Process {
    /// Starts it. Its output goes to memory and to `NAME.log` in `logs`, which is appended to.
    ///
    /// # Errors
    ///
    /// When the program can't be started or the log can't be written.
    pub fn start(spec: &Spec, logs: &Path) -> Result<Self, ProcessError> {
        let log = logs.join(format!("{}.log", spec.name));
        Self::spawn(spec, &log).map_err(|source| ProcessError::System {
            name: spec.name.clone(),
            what: format!("starting {}", spec.program.display()),
            source,
        })
    }

    fn spawn(spec: &Spec, log: &Path) -> io::Result<Self> {
        let output = Arc::new(Output::new(log)?);
        // One pipe for both, so that the lines keep their order.
        let (reader, writer) = io::pipe()?;
        let mut command = spec.command(env::vars_os().map(|(name, _)| name));
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // A group of its own: Ctrl-C is for us, and we end our children in the right order.
        command.process_group(0);
        let child = command.spawn()?;
        // The command holds the writing ends too; the reader would never see the end of the output.
        drop(command);
        let sink = Arc::clone(&output);
        thread::Builder::new()
            .name(format!("{} output", spec.name))
            .spawn(move || sink.read_all(reader))?;
        Ok(Self {
            name: spec.name.clone(),
            pid: child.id(),
            child: Mutex::new(child),
            output,
            log: log.to_owned(),
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Where all of its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines()
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Sends a signal: [`Signal::TERM`], [`Signal::KILL`], [`Signal::STOP`], [`Signal::CONT`] …
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        // Under the lock: a child that is reaped meanwhile would hand its id to a stranger.
        let mut child = self.child();
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(self.ended_error());
        }
        kill_process(Pid::from_child(&child), signal).map_err(|source| ProcessError::System {
            name: self.name.clone(),
            what: format!("sending {signal:?}"),
            source: source.into(),
        })
    }

    /// Waits for it to end.
    ///
    /// # Errors
    ///
    /// When it is still running after `within`.
    pub async fn wait(&self, within: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                let _ = timeout(LAST_WORDS, self.output.end()).await;
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.late("end", within));
            }
            sleep(WAIT_STEP).await;
        }
    }

    /// Waits for a line of its output, past or future, and returns it; `awaited` is for messages.
    ///
    /// # Errors
    ///
    /// When the line does not come in time, or the output ends without it.
    pub async fn wait_for_line(
        &self,
        awaited: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, ProcessError> {
        match timeout(within, self.output.find(wanted)).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.ended_error()),
            Err(_) => Err(self.late(&format!("line with {awaited}"), within)),
        }
    }

    /// Kills it and waits until it is gone. Quick, and harmless on one that has ended.
    pub fn kill(&self) {
        let mut child = self.child();
        // The only failure is that it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many as a message can bear.
    pub(crate) fn last_lines(&self) -> String {
        let lines = self.output.lines();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn ended_error(&self) -> ProcessError {
        ProcessError::Ended { name: self.name.clone(), lines: self.last_lines() }
    }

    fn late(&self, awaited: &str, within: Duration) -> ProcessError {
        ProcessError::Late {
            name: self.name.clone(),
            awaited: awaited.into(),
            within,
            lines: self.last_lines(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!(
                "--- last lines of {} ({})\n{}",
                self.name,
                self.log.display(),
                self.last_lines()
            );
        }
    }
}

#[cfg(test)]
mod tests;

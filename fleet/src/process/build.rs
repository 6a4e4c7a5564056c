//! The workspace's own binaries, never stale.
//!
//! `cargo test -p ringway-fleet` builds this crate's tests but not the servers they start; an old
//! `apiserver` in the target directory would be tested instead of the edited one. So the first
//! test of a process that asks for a binary runs `cargo build` for all of them, in the profile it
//! was built in itself. That is the same command as in the Makefile, hence usually a no-op.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use crate::tools::workspace;

/// The result of the one build of this process.
static BUILT: OnceLock<Result<PathBuf, BuildError>> = OnceLock::new();

/// Why a binary of the workspace is not there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(String);

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self(format!("cannot build the workspace's binaries: {error}"))
    }
}

/// The path of a binary of the workspace (`apiserver`, `cachenode` …), built from the sources as
/// they are now. Blocks for the length of the build the first time.
///
/// A `fleet` that was moved away from its sources takes the binaries beside itself.
///
/// # Errors
///
/// When the build fails, or has no such binary.
pub fn binary(name: &str) -> Result<PathBuf, BuildError> {
    let dir = BUILT.get_or_init(build).clone()?;
    let path = dir.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(BuildError(format!("no binary '{name}' in {}", dir.display())))
}

/// Builds all binaries and returns the directory they are in.
fn build() -> Result<PathBuf, BuildError> {
    let dir = profile_dir(&env::current_exe()?);
    let sources = workspace();
    if !sources.join("Cargo.toml").is_file() {
        return Ok(dir);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bins", "--quiet"]).current_dir(&sources);
    if let Some(target) = dir.parent() {
        command.arg("--target-dir").arg(target);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let Output { status, stderr, .. } =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if status.success() {
        return Ok(dir);
    }
    Err(BuildError(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&stderr))))
}

/// `target/debug` for `target/debug/deps/some_test-0123` as for `target/debug/fleet`.
fn profile_dir(executable: &Path) -> PathBuf {
    let dir = executable.parent().unwrap_or(executable);
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => dir.parent().unwrap_or(dir).to_owned(),
        _ => dir.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_programs_find_the_same_directory() {
        for executable in ["/t/debug/deps/x-1", "/t/debug/fleet", "/t/debug/examples/x"] {
            assert_eq!(profile_dir(Path::new(executable)), Path::new("/t/debug"), "{executable}");
        }
    }

    #[test]
    fn builds_the_servers_and_knows_what_is_not_one() {
        for name in ["apiserver", "cachenode"] {
            let path = binary(name).unwrap();
            assert!(path.ends_with(name) && path.is_file(), "{path:?}");
        }
        let error = binary("no-such-server").unwrap_err().to_string();
        assert!(error.contains("no binary 'no-such-server'"), "{error}");
    }
}

//! Where the programs are that the harness starts but does not build: etcd, etcdctl, wrk.
//!
//! Nothing is fetched here; that is `tools/fetch-debian`, which `make test` runs first. A missing
//! program is an error with the command that brings it, never a reason to skip a test.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A program that is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no '{name}' in {searched}: run `make tools` in the repository (it needs no root), or put {name} on the PATH"
)]
pub struct MissingTool {
    name: String,
    searched: String,
}

/// The path of a program: `$RINGWAY_TOOLS/bin`, the workspace's `target/tools/bin`, the `PATH`.
///
/// # Errors
///
/// When none of them has it; the text tells how to get it.
pub fn find(name: &str) -> Result<PathBuf, MissingTool> {
    let of_environment = env::var_os("RINGWAY_TOOLS").map(|tools| PathBuf::from(tools).join("bin"));
    let of_workspace = workspace().join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> =
        of_environment.into_iter().chain([of_workspace]).chain(env::split_paths(&path)).collect();
    find_in(name, &places)
}

/// The directory of the workspace this was built from.
pub(crate) fn workspace() -> PathBuf {
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR"));
    fleet.parent().unwrap_or(fleet).to_owned()
}

fn find_in(name: &str, places: &[PathBuf]) -> Result<PathBuf, MissingTool> {
    places.iter().map(|place| place.join(name)).find(|path| is_program(path)).ok_or_else(|| {
        let searched: Vec<String> =
            places.iter().map(|place| place.display().to_string()).collect();
        MissingTool { name: name.into(), searched: searched.join(":") }
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn place(program: &str, mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(program);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn the_first_place_wins_and_what_cannot_run_is_passed_over() {
        let (no, first, second) =
            (place("etcd", 0o644), place("etcd", 0o755), place("etcd", 0o755));
        let places = [no.path().into(), first.path().into(), second.path().into()];
        assert_eq!(find_in("etcd", &places).unwrap(), first.path().join("etcd"));
    }

    #[test]
    fn a_missing_program_names_the_command_that_brings_it() {
        let dir = place("etcd", 0o755);
        let error = find_in("wrk", &[dir.path().into()]).unwrap_err().to_string();
        assert!(error.contains("'wrk'") && error.contains("`make tools`"), "{error}");
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }

    #[test]
    fn finds_programs_of_the_path() {
        assert!(find("sh").unwrap().ends_with("sh"));
    }
}

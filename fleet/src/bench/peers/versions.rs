//! Where a run took place, and which versions took part.

use std::{fs, io, process::Command};

use serde::{Deserialize, Serialize};

use crate::{report::Machine, tools::workspace};

/// The programs of others that take part, as `tools/fetch-debian` knows them.
pub const PEERS: [&str; 7] =
    ["etcd", "etcdctl", "wrk", "nginx", "memcached", "redis-server", "webdis"];
/// What `tools/fetch-debian` says first of a program that is there.
const SAID: &str = "tools: ";

/// The machine, and the programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The machine, its kernel, our commit.
    pub machine: Machine,
    /// The processor's name.
    pub cpu: String,
    /// Name and version of every program of others.
    pub versions: Vec<(String, String)>,
}

/// The programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The script can't be run.
    #[error("tools/fetch-debian: {0}")]
    System(#[from] io::Error),
    /// It could not get them.
    #[error("tools/fetch-debian failed:\n{0}")]
    Failed(String),
    /// It did not say which one there is.
    #[error("tools/fetch-debian does not tell {0}'s version:\n{1}")]
    Unknown(&'static str, String),
}

impl Place {
    /// This one. Makes sure that every program is there, and fetches those that are not.
    ///
    /// # Errors
    /// [`PlaceError`]
    pub fn this() -> Result<Self, PlaceError> {
        let said =
            Command::new("tools/fetch-debian").args(PEERS).current_dir(workspace()).output()?;
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        if !said.status.success() {
            return Err(PlaceError::Failed(text));
        }
        let version = |name: &'static str| {
            let version = version(&text, name).ok_or(PlaceError::Unknown(name, text.clone()))?;
            Ok((name.to_owned(), version.to_owned()))
        };
        Ok(Self {
            machine: Machine::this(),
            cpu: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            versions: PEERS.into_iter().map(version).collect::<Result<_, PlaceError>>()?,
        })
    }

    /// The programs and their versions, in words.
    pub(super) fn versions(&self) -> String {
        // etcd is told of with the machine, and etcdctl takes no part.
        let told = self.versions.iter().filter(|(name, _)| !name.starts_with("etcd"));
        told.map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }

    #[cfg(test)]
    pub(super) fn of_a_test() -> Self {
        let machine = Machine {
            cores: 2,
            memory: 16_000,
            kernel: "6.1".into(),
            etcd: "3.4.23".into(),
            date: "2026-11-21".into(),
            commit: "abc".into(),
        };
        let versions = [("etcd", "3.4.23"), ("wrk", "4.1.0"), ("nginx", "1.22.1")];
        let versions = versions.map(|(name, version)| (name.to_owned(), version.to_owned()));
        Self { machine, cpu: "A processor".into(), versions: versions.to_vec() }
    }
}

/// What the script said of a program: `tools: NAME VERSION, …` or `tools: NAME VERSION unpacked …`.
fn version<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| {
        let rest = line.strip_prefix(SAID)?.strip_prefix(name)?.strip_prefix(' ')?;
        rest.split([' ', ',']).next()
    })
}

/// The first processor's name of a text like /proc/cpuinfo.
fn processor(info: &str) -> String {
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|rest| rest.split_once(':')).map(|(_, name)| name.trim());
    model.unwrap_or("unknown processor").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_script_says() {
        let said = "tools: downloading nginx\ntools: etcd 3.4.23, /x/etcd\n\
                    tools: etcdctl 3.4.24, /x\ntools: webdis 0.1.9+dfsg-1.1 unpacked from webdis\n";
        assert_eq!(version(said, "etcd"), Some("3.4.23"));
        assert_eq!(version(said, "etcdctl"), Some("3.4.24"));
        assert_eq!(version(said, "webdis"), Some("0.1.9+dfsg-1.1"));
        assert_eq!(version(said, "nginx"), None);
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(processor("vendor: x\nmodel name\t: A B\nmodel name\t: C\n"), "A B");
        assert_eq!(processor(""), "unknown processor");
    }

    #[test]
    fn only_those_that_take_part_are_told() {
        assert_eq!(Place::of_a_test().versions(), "wrk 4.1.0, nginx 1.22.1");
    }
}

//! From the keys about etcd to an [`EtcdAccess`]: what belongs together, and the files it names.
//!
//! The files are read here, so that a start shows a wrong path or a garbled file like every other
//! mistake. Where the backend is another one they are not looked at.

use std::path::Path;

use super::{
    problem::Problem,
    settings::{Backend, DiscoverySettings},
    values::Values,
};
use crate::{
    discovery::{EtcdAccess, EtcdUser},
    security::{self, Certificates, Identity, PrivateKey},
};

const USERNAME: &str = "discovery.etcd_username";
const PASSWORD: &str = "discovery.etcd_password";
const CA_FILE: &str = "discovery.etcd_ca_file";
const CERT_FILE: &str = "discovery.etcd_cert_file";
const KEY_FILE: &str = "discovery.etcd_key_file";

/// The prefix of endpoints that are spoken to by TLS.
const TLS: &str = "https://";

/// Builds the access from what the keys say.
pub(super) fn access(
    values: &Values,
    endpoints: &[String],
    backend: Backend,
    problems: &mut Vec<Problem>,
) -> EtcdAccess {
    if backend != Backend::Etcd {
        return EtcdAccess::default();
    }
    if !endpoints.iter().any(|endpoint| endpoint.starts_with(TLS)) {
        for key in [CA_FILE, CERT_FILE, KEY_FILE] {
            if values.text(key).is_some() {
                let message = "it is for endpoints that begin with https://, and \
                               discovery.etcd_endpoints has none";
                problems.push(values.problem(key, message));
            }
        }
    }
    let mut read = Reader { values, problems };
    EtcdAccess {
        user: read.user(),
        authorities: read.file(CA_FILE, Certificates::read),
        identity: read.identity(),
    }
}

/// A password that is sent so that others can read it.
pub(super) fn warning(discovery: &DiscoverySettings) -> Option<String> {
    discovery.etcd_access.user.as_ref()?;
    let in_plain = |endpoint: &&String| {
        let bare = endpoint.strip_prefix("http://").unwrap_or(endpoint);
        let host = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
        !endpoint.starts_with(TLS) && !security::is_loopback(host)
    };
    let endpoint = discovery.etcd_endpoints.iter().find(in_plain)?;
    Some(format!("{PASSWORD} is sent to {endpoint} without encryption; use {TLS}"))
}

struct Reader<'a> {
    values: &'a Values,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn user(&mut self) -> Option<EtcdUser> {
        let (name, password) = (self.values.text(USERNAME), self.values.secret(PASSWORD));
        self.both_or_none((USERNAME, name.is_some()), (PASSWORD, password.is_some()));
        Some(EtcdUser { name: name?, password: password? })
    }

    fn identity(&mut self) -> Option<Identity> {
        let given = |key| (key, self.values.text(key).is_some());
        let (cert, key) = (given(CERT_FILE), given(KEY_FILE));
        self.both_or_none(cert, key);
        let certificates = self.file(CERT_FILE, Certificates::read);
        let key = self.file(KEY_FILE, PrivateKey::read);
        match Identity::new(certificates?, key?) {
            Ok(identity) => Some(identity),
            Err(why) => {
                self.problems.push(self.values.problem(KEY_FILE, why));
                None
            }
        }
    }

    fn both_or_none(&mut self, one: (&str, bool), other: (&str, bool)) {
        let (given, missing) = match (one.1, other.1) {
            (true, false) => (one.0, other.0),
            (false, true) => (other.0, one.0),
            _ => return,
        };
        self.problems.push(self.values.problem(given, format!("it needs {missing}, too")));
    }

    fn file<T>(&mut self, key: &str, read: fn(&Path) -> Result<T, String>) -> Option<T> {
        let path = self.values.text(key)?;
        match read(Path::new(&path)) {
            Ok(content) => Some(content),
            Err(why) => {
                self.problems.push(self.values.problem(key, why));
                None
            }
        }
    }
}

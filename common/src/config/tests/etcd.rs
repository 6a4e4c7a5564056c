//! How etcd is reached: what belongs together, the files that are read, and what must not show.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::*;

/// PEM files that go with the test.
pub(super) struct Pem {
    directory: TempDir,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pem {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = generate_simple_self_signed(["etcd".to_owned()]).unwrap();
        let CertifiedKey { cert, signing_key } = made;
        let file = |name: &str, content: String| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let certificate = file("cert.pem", cert.pem());
        let key = file("key.pem", signing_key.serialize_pem());
        Self { certificate, key, directory }
    }
}

/// Variables of `[discovery]`, with an https endpoint unless there is another one.
fn discovery(pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let endpoint = ("ETCD_ENDPOINTS", "https://etcd:2379");
    let pairs = std::iter::once(&endpoint).chain(pairs);
    let named =
        |(name, value): &(&str, &str)| (format!("RINGWAY_DISCOVERY__{name}"), (*value).to_owned());
    load(&GatewayFlags::default(), pairs.map(named))
}

/// The complaints about keys, one of which begins with `key` and holds `why`.
fn assert_told(pairs: &[(&str, &str)], key: &str, why: &str) {
    let error = discovery(pairs).unwrap_err();
    let told = |problem: &Problem| problem.key == key && problem.to_string().contains(why);
    assert!(error.problems().iter().any(told), "{error}");
}

#[test]
fn users_and_files_reach_discovery_and_secrets_no_output() {
    let pem = Pem::new();
    let loaded = discovery(&[
        ("ETCD_USERNAME", "fleet"),
        ("ETCD_PASSWORD", "0123-sesame"),
        ("ETCD_CA_FILE", &pem.certificate),
        ("ETCD_CERT_FILE", &pem.certificate),
        ("ETCD_KEY_FILE", &pem.key),
    ])
    .unwrap();
    let access = &loaded.settings.discovery.etcd_access;
    let user = access.user.as_ref().unwrap();
    assert_eq!((user.name.as_str(), user.password.expose()), ("fleet", "0123-sesame"));
    let certificate = fs::read(&pem.certificate).unwrap();
    assert_eq!(access.authorities.as_ref().unwrap().pem(), certificate);
    assert_eq!(access.identity.as_ref().unwrap().certificates(), certificate);
    for output in [loaded.report().to_owned(), format!("{:?}", loaded.settings)] {
        assert!(!output.contains("sesame") && !output.contains("PRIVATE"), "{output}");
    }
    assert!(loaded.report().contains("etcd_password = \"********\""), "{}", loaded.report());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn one_half_of_a_pair_is_a_mistake() {
    let pem = Pem::new();
    let name = [("ETCD_USERNAME", "fleet")];
    assert_told(&name, "discovery.etcd_username", "needs discovery.etcd_password");
    let password = [("ETCD_PASSWORD", "sesame")];
    assert_told(&password, "discovery.etcd_password", "needs discovery.etcd_username");
    assert!(!discovery(&password).unwrap_err().to_string().contains("sesame"));
    let certificate = [("ETCD_CERT_FILE", pem.certificate.as_str())];
    assert_told(&certificate, "discovery.etcd_cert_file", "needs discovery.etcd_key_file");
    let key = [("ETCD_KEY_FILE", pem.key.as_str())];
    assert_told(&key, "discovery.etcd_key_file", "needs discovery.etcd_cert_file");
}

#[test]
fn files_are_read_at_the_start() {
    let pem = Pem::new();
    let missing = pem.directory.path().join("missing.pem");
    let missing = missing.to_str().unwrap();
    let file = [("ETCD_CA_FILE", missing)];
    assert_told(
        &file,
        "discovery.etcd_ca_file",
        "missing.pem\" (environment RINGWAY_DISCOVERY__ETCD_CA_FILE): the file can't be read: No such file",
    );
    let swapped = [("ETCD_CERT_FILE", &*pem.key), ("ETCD_KEY_FILE", &*pem.certificate)];
    assert_told(&swapped, "discovery.etcd_cert_file", "holds no certificate");
    assert_told(&swapped, "discovery.etcd_key_file", "holds no private key");
    let other = Pem::new();
    let mixed = [("ETCD_CERT_FILE", &*pem.certificate), ("ETCD_KEY_FILE", &*other.key)];
    assert_told(&mixed, "discovery.etcd_key_file", "does not go with the certificate");
}

#[test]
fn files_for_tls_need_an_endpoint_that_speaks_it() {
    let pem = Pem::new();
    for endpoints in ["etcd:2379", "http://etcd:2379"] {
        let pairs = [
            ("ETCD_ENDPOINTS", endpoints),
            ("ETCD_CA_FILE", &pem.certificate),
            ("ETCD_CERT_FILE", &pem.certificate),
            ("ETCD_KEY_FILE", &pem.key),
        ];
        for key in ["etcd_ca_file", "etcd_cert_file", "etcd_key_file"] {
            assert_told(&pairs, &format!("discovery.{key}"), "discovery.etcd_endpoints has none");
        }
    }
    let mixed = [("ETCD_ENDPOINTS", "a:1,https://b:2"), ("ETCD_CA_FILE", &pem.certificate)];
    assert!(discovery(&mixed).is_ok());
}

#[test]
fn a_password_sent_in_plain_is_warned_of() {
    let warnings = |endpoints| {
        let user = [("ETCD_USERNAME", "fleet"), ("ETCD_PASSWORD", "sesame")];
        discovery(&[&[("ETCD_ENDPOINTS", endpoints)], &user[..]].concat()).unwrap().warnings
    };
    let told = warnings("https://a:1,b:2");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("is sent to b:2 without encryption"), "{told:?}");
    for safe in ["https://a:1", "127.0.0.1:1", "http://localhost:1", "[::1]:1"] {
        assert_eq!(warnings(safe), Vec::<String>::new(), "{safe}");
    }
}

#[test]
fn another_backend_needs_none_of_it() {
    let pairs = [
        ("BACKEND", "static"),
        ("NODES", "a:1"),
        ("ETCD_USERNAME", "fleet"),
        ("ETCD_CA_FILE", "/nowhere/ca.pem"),
    ];
    let loaded = discovery(&pairs).unwrap();
    assert_eq!(loaded.settings.discovery.etcd_access, Default::default());
}

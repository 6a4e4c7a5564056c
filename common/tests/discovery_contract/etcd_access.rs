//! An etcd that asks who comes, and one that must show who it is: users, passwords, certificates.

use std::{fs, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use common::{
    discovery::{Discovery, EtcdAccess, EtcdOptions, EtcdUser},
    security::{Certificates, Identity, PrivateKey, Secret},
};
use etcd_client::{Client, ConnectOptions, Permission};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::{
    backend::*,
    etcd::{SERVICE, start, until_told},
    etcd_server::{EtcdServer, Ports},
};

const FLEET: (&str, &str) = ("fleet", "sesame");
const ROOT: (&str, &str) = ("root", "open");

fn options(endpoint: String, access: EtcdAccess) -> EtcdOptions {
    let endpoints = vec![endpoint];
    EtcdOptions { endpoints, access, service: SERVICE.into(), ..EtcdOptions::default() }
}

fn handle(endpoint: String, access: EtcdAccess) -> Arc<dyn Discovery> {
    start(options(endpoint, access), &Answering::default())
}

fn user((name, password): (&str, &str)) -> EtcdAccess {
    let user = EtcdUser { name: name.into(), password: Secret::new(password) };
    EtcdAccess { user: Some(user), ..EtcdAccess::default() }
}

async fn assert_works(handle: &dyn Discovery, address: &str) {
    let registration = handle.register(node(address));
    until_registered(&registration).await;
    until_view(handle, |view| ids(view) == [address]).await;
    registration.leave().await.unwrap();
}

/// Adds users: one for the fleet, one who may do everything.
async fn add_users(server: &EtcdServer) {
    let mut client = server.client().await;
    client.role_add("cluster").await.unwrap();
    let prefix = Permission::read_write(format!("/{SERVICE}/")).with_prefix();
    client.role_grant_permission("cluster", prefix).await.unwrap();
    for ((name, password), role) in [(FLEET, "cluster"), (ROOT, "root")] {
        client.user_add(name, password, None).await.unwrap();
        client.user_grant_role(name, role).await.unwrap();
    }
    client.user_add("nobody", "nothing", None).await.unwrap();
}

async fn with_users() -> EtcdServer {
    let server = EtcdServer::start().await;
    add_users(&server).await;
    server.client().await.auth_enable().await.unwrap();
    server
}

#[tokio::test]
async fn a_user_and_its_password_are_let_in() {
    let server = with_users().await;
    assert_works(&*handle(server.address().to_string(), user(FLEET)), A).await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let server = with_users().await;
    for (access, words) in [
        (user(("fleet", "wrong")), "check discovery.etcd_username and discovery.etcd_password"),
        (user(("nemo", "sesame")), "check discovery.etcd_username and discovery.etcd_password"),
        (EtcdAccess::default(), "set discovery.etcd_username and discovery.etcd_password"),
        (user(("nobody", "nothing")), "a role that may read and write"),
    ] {
        let handle = handle(server.address().to_string(), access);
        let problem = until_told(&*handle, words).await;
        let password = ["sesame", "wrong", "nothing"].into_iter().find(|p| problem.contains(p));
        assert_eq!(password, None, "{problem}");
    }
}

#[tokio::test]
async fn a_token_that_is_no_longer_valid_is_replaced() {
    let server = with_users().await;
    let options =
        EtcdOptions { anti_entropy: LONG, ..options(server.address().to_string(), user(FLEET)) };
    let handle = start(options, &Answering::default());
    let registration = handle.register(node(A));
    let revision = until_registered(&registration).await;
    until(handle.status(), |status| status.connected).await;
    // Setting a password, be it the same, ends the tokens of its user.
    let as_root = ConnectOptions::new().with_user(ROOT.0, ROOT.1);
    let mut root = Client::connect([server.address().to_string()], Some(as_root)).await.unwrap();
    root.user_change_password(FLEET.0, FLEET.1).await.unwrap();
    handle.catch_up(revision).await.unwrap();
    registration.leave().await.unwrap();
}

#[tokio::test]
async fn a_user_may_be_configured_before_authentication_is_switched_on() {
    let server = EtcdServer::start().await;
    let options = EtcdOptions {
        anti_entropy: Duration::from_millis(200),
        ..options(server.address().to_string(), user(FLEET))
    };
    let handle = start(options, &Answering::default());
    assert_works(&*handle, A).await;
    add_users(&server).await;
    server.client().await.auth_enable().await.unwrap();
    assert_works(&*handle, B).await;
}

/// Certificates of one authority, in files.
struct Authority {
    files: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { files: tempfile::tempdir().unwrap(), issuer };
        fs::write(authority.file("ca"), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(format!("{name}.pem"))
    }

    /// Writes a certificate and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.file(name), self.file(&format!("{name}-key")));
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn certificates(&self) -> Certificates {
        Certificates::read(&self.file("ca")).unwrap()
    }

    fn identity(&self, name: &str) -> Identity {
        let (certificate, key) = self.issue(name);
        let certificate = Certificates::read(&certificate).unwrap();
        Identity::new(certificate, PrivateKey::read(&key).unwrap()).unwrap()
    }
}

/// An etcd that speaks TLS on a second port and asks there for a certificate of the authority.
async fn with_tls(authority: &Authority) -> (EtcdServer, u16) {
    let mut server = EtcdServer::start().await;
    let (certificate, key) = authority.issue("etcd");
    let ca = authority.file("ca");
    let [certificate, key, ca] = [&certificate, &key, &ca].map(|path| path.to_str().unwrap());
    let port = Ports::free().client;
    let urls = format!("http://{},https://127.0.0.1:{port}", server.address());
    let files = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca];
    let listening = ["--client-cert-auth", "--listen-client-urls", &urls];
    server.resume_with(&[&files[..], &listening[..]].concat()).await;
    (server, port)
}

#[tokio::test]
async fn certificates_of_the_same_authority_are_accepted_on_both_sides() {
    let ours = Authority::new();
    let (_server, port) = with_tls(&ours).await;
    let access = EtcdAccess {
        authorities: Some(ours.certificates()),
        identity: Some(ours.identity("node")),
        user: None,
    };
    assert_works(&*handle(format!("https://127.0.0.1:{port}"), access), A).await;
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_told_in_words() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (server, port) = with_tls(&ours).await;
    let with = |authority: &Authority, identity| EtcdAccess {
        authorities: Some(authority.certificates()),
        identity,
        user: None,
    };
    let (good, bad) = (ours.identity("node"), theirs.identity("node"));
    let (secure, plain) = (format!("127.0.0.1:{port}"), server.address());
    for (endpoint, access, words) in [
        (format!("https://{secure}"), with(&theirs, Some(good.clone())), "etcd_ca_file"),
        (format!("https://{secure}"), EtcdAccess::default(), "etcd_ca_file"),
        (format!("https://{secure}"), with(&ours, None), "etcd_cert_file"),
        (format!("https://{secure}"), with(&ours, Some(bad)), "etcd_cert_file"),
        (format!("https://localhost:{port}"), with(&ours, Some(good.clone())), "another name"),
        (format!("https://{plain}"), with(&ours, Some(good)), "use http://"),
        (secure, EtcdAccess::default(), "https://"),
    ] {
        let handle = handle(endpoint, access);
        until_told(&*handle, words).await;
        assert_eq!(*handle.views().borrow(), None);
    }
}

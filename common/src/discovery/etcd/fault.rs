//! What the failures of calls to etcd mean, in plain words that say what to do where that is known.

use std::{error::Error, io};

use etcd_client::Error as ClientError;
use rustls::CertificateError;
use tonic::{Code, Status};

/// Why a call to etcd failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// No useful answer, in plain words.
    Unreachable(String),
    /// etcd knows no such lease.
    NoLease,
}

impl Fault {
    pub(super) fn in_words(self) -> String {
        match self {
            Self::Unreachable(why) => why,
            Self::NoLease => "etcd knows no such lease".into(),
        }
    }
}

/// etcd's own texts, which are all that its clients can tell these cases apart by, and what they
/// mean for us.
const KNOWN: [(&str, &str); 8] = [
    (
        "etcdserver: authentication failed, invalid user ID or password",
        "refuses the user: check discovery.etcd_username and discovery.etcd_password",
    ),
    (
        "etcdserver: user name is empty",
        "asks for a user: set discovery.etcd_username and discovery.etcd_password",
    ),
    (
        "etcdserver: permission denied",
        "refuses what we ask: the user needs a role that may read and write under the \
         cluster's prefix",
    ),
    ("etcdserver: invalid auth token", "has forgotten who we are; we log in again"),
    ("etcdserver: revision of auth store is old", "has changed its users; we log in again"),
    ("etcdserver: no leader", "has no leader: most members of its cluster are away"),
    (
        "etcdserver: mvcc: database space exceeded",
        "is full and takes no writes: compact and defragment it, then disarm the alarm",
    ),
    (
        "etcdserver: request timed out",
        "got no answer from the other members of its cluster in time",
    ),
];

/// Why a server may hang up on an encrypted connection instead of answering. It says so by an
/// alert, but that may get lost: with TLS 1.3 we are already writing.
const NOT_US: &str = "it does not accept who we are: check discovery.etcd_cert_file and \
                      discovery.etcd_key_file";
/// Why a server may hang up on a plain one.
const NOT_PLAIN: &str = "it may expect https://";

/// What is known of a connection that does not work.
enum Broken {
    /// Why, as certain as it can be.
    Explained(String),
    /// How it showed.
    Unexplained(String),
}

/// A place that etcd is looked for.
#[derive(Debug, Clone)]
pub(super) struct Whereabouts {
    /// `host:port`.
    pub(super) address: String,
    pub(super) encrypted: bool,
}

impl Whereabouts {
    /// What an error of the client means, on a connection that was `answered` on before or not.
    pub(super) fn fault_of(&self, error: &ClientError, answered: bool) -> Fault {
        let address = &self.address;
        let why = match error {
            ClientError::GRpcStatus(status) if status.code() == Code::NotFound => {
                return Fault::NoLease;
            }
            // The crate's way to say that a renewal was answered with a ttl of 0.
            ClientError::LeaseKeepAliveError(_) => return Fault::NoLease,
            ClientError::GRpcStatus(status) => match status.source() {
                Some(cause) => match self.below(cause) {
                    Broken::Unexplained(why) if !answered => {
                        let hint = if self.encrypted { NOT_US } else { NOT_PLAIN };
                        format!(": {why}; if it is always like that, {hint}")
                    }
                    Broken::Explained(why) | Broken::Unexplained(why) => format!(": {why}"),
                },
                None => said(status),
            },
            ClientError::TransportError(error) => {
                let (Broken::Explained(why) | Broken::Unexplained(why)) = self.below(error);
                format!(" can't be reached: {why}")
            }
            other => format!(": {other}"),
        };
        Fault::Unreachable(format!("etcd at {address}{why}"))
    }

    /// What went wrong with the connection.
    fn below(&self, error: &(dyn Error + 'static)) -> Broken {
        let causes = || std::iter::successors(Some(error), |error| inside(*error));
        if let Some(error) = causes().find_map(|cause| cause.downcast_ref()) {
            return Broken::Explained(encryption(error));
        }
        let last = causes().last().map(ToString::to_string).unwrap_or_default();
        // Detected here, not said by the other side: that would be speaking HTTP/2.
        if causes().filter_map(|cause| cause.downcast_ref()).any(h2::Error::is_library) {
            let hint = if self.encrypted { "" } else { ", or it expects https://" };
            return Broken::Explained(format!("what answers there is not an etcd{hint} ({last})"));
        }
        if self.encrypted && causes().any(is_eof) {
            let why = format!("it hung up on TLS: use http:// if it does not speak that ({last})");
            return Broken::Explained(why);
        }
        Broken::Unexplained(last)
    }
}

/// What went wrong with TLS.
fn encryption(error: &rustls::Error) -> String {
    use rustls::{
        AlertDescription::*,
        Error::{AlertReceived, InvalidCertificate, InvalidMessage},
    };
    match error {
        // A bad signature is what an authority that was made anew under its old name leaves.
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is signed by no authority that is trusted here: \
             check discovery.etcd_ca_file"
                .into()
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is made out to another name than the endpoint's host".into(),
        InvalidCertificate(error) => format!("its certificate can't be accepted: {error}"),
        InvalidMessage(_) => "it does not speak TLS: use http:// if that is meant".into(),
        AlertReceived(
            alert @ (BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | CertificateRequired
            | UnknownCA
            | AccessDenied),
        ) => format!("{NOT_US} ({alert:?})"),
        other => format!("TLS failed: {other}"),
    }
}

/// What a server has answered instead of doing what it was asked.
fn said(status: &Status) -> String {
    let text = status.message();
    if let Some((_, meaning)) = KNOWN.iter().find(|(known, _)| *known == text) {
        return format!(" {meaning} ({text})");
    }
    match status.code() {
        Code::Unimplemented => format!(" is not an etcd: it does not know the question ({text})"),
        code => format!(": {text} ({code:?})"),
    }
}

fn is_eof(cause: &(dyn Error + 'static)) -> bool {
    let io = cause.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// The cause of an error, also the one that `io::Error` keeps to itself.
fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

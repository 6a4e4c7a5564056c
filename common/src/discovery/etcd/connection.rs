//! Connections to etcd, one endpoint at a time, and what their failures mean in plain words.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_client::{Channel, Client, ConnectOptions, Error as ClientError};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

pub(super) use super::fault::Fault;
use super::{EtcdOptions, fault::Whereabouts, operation::Answer};
use crate::discovery::{EtcdAccess, EtcdUser};

/// How often an idle connection is checked. etcd hangs up on clients that do it more often than
/// every 5 s.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to such a check may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The endpoints, tried in turn.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    all: Vec<(Whereabouts, Endpoint)>,
    next: usize,
    user: Option<EtcdUser>,
    /// Whether it was said already that the user is not used.
    user_is_idle: bool,
    connect_timeout: Duration,
    request_timeout: Duration,
}

/// A client of one endpoint.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    at: Whereabouts,
    /// Whether there was ever an answer here.
    answered: Arc<AtomicBool>,
    request_timeout: Duration,
}

impl Endpoints {
    /// Reads the endpoints; says in plain words what is wrong with them.
    pub(super) fn parse(options: &EtcdOptions) -> Result<Self, String> {
        let &EtcdOptions { connect_timeout, request_timeout, .. } = options;
        let parse = |text: &String| {
            let (at, endpoint) = endpoint(text, &options.access)?;
            let endpoint = endpoint
                .connect_timeout(connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            Ok::<_, String>((at, endpoint))
        };
        let all = options.endpoints.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            return Err("no etcd endpoint is configured".into());
        }
        let user = options.access.user.clone();
        Ok(Self { all, next: 0, user, user_is_idle: false, connect_timeout, request_timeout })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The same endpoints with answers awaited no longer than `limit`.
    pub(super) fn answering_within(mut self, limit: Duration) -> Self {
        self.request_timeout = self.request_timeout.min(limit);
        self.connect_timeout = self.connect_timeout.min(limit);
        self
    }

    /// Begins with any of the endpoints, so that not all processes begin with the first.
    pub(super) fn shuffled(mut self) -> Self {
        self.next = fastrand::usize(..self.all.len());
        self
    }

    /// Connects to the next endpoint, and logs in there if there is a user.
    pub(super) async fn connect(&mut self) -> Result<Connection, Fault> {
        let (at, endpoint) = self.all[self.next % self.all.len()].clone();
        self.next = (self.next + 1) % self.all.len();
        let limit = self.connect_timeout;
        let channel = match tokio::time::timeout(limit, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| at.fault_of(&error.into(), false))?,
            Err(_) => {
                let address = &at.address;
                let why = format!("etcd at {address} can't be reached within {limit:?}");
                return Err(Fault::Unreachable(why));
            }
        };
        let client = self.log_in(&at, Channel::Tonic(channel)).await?;
        let request_timeout = self.request_timeout;
        Ok(Connection { client, at, answered: Arc::default(), request_timeout })
    }

    async fn log_in(&mut self, at: &Whereabouts, channel: Channel) -> Result<Client, Fault> {
        let limit = self.request_timeout;
        if let Some(user) = self.user.clone() {
            let logging_in = client(channel.clone(), Some(user));
            match tokio::time::timeout(limit, logging_in).await {
                Err(_) => return Err(unanswered(at, "the log-in", limit)),
                Ok(Err(ClientError::GRpcStatus(status)))
                    if status.code() == Code::FailedPrecondition =>
                {
                    self.warn_of_idle_user(at);
                }
                Ok(logged_in) => return logged_in.map_err(|error| at.fault_of(&error, false)),
            }
        }
        // Nothing is sent here.
        client(channel, None).await.map_err(|error| at.fault_of(&error, false))
    }

    fn warn_of_idle_user(&mut self, at: &Whereabouts) {
        if !std::mem::replace(&mut self.user_is_idle, true) {
            let etcd = &at.address;
            tracing::warn!(
                etcd,
                "authentication is switched off there, discovery.etcd_username is not used"
            );
        }
    }
}

async fn client(channel: Channel, user: Option<EtcdUser>) -> Result<Client, ClientError> {
    let options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
    let options = match user {
        Some(EtcdUser { name, password }) => options.with_user(name, password.expose()),
        None => options,
    };
    Client::from_channel(channel, Some(options)).await
}

/// Reads one endpoint; says in plain words what is wrong with it.
fn endpoint(text: &str, access: &EtcdAccess) -> Result<(Whereabouts, Endpoint), String> {
    let bad = |why: &str| format!("etcd endpoint {text:?} {why}: use host:port");
    let address = text.trim();
    let (encrypted, address) = match address.strip_prefix("https://") {
        Some(address) => (true, address),
        None => (false, address.strip_prefix("http://").unwrap_or(address)),
    };
    let address = address.trim_end_matches('/');
    if address.contains("://") {
        return Err(bad("is neither http nor https"));
    }
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.filter(|port| *port > 0).ok_or_else(|| bad("has no port"))?;
    let scheme = if encrypted { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| bad("is not an address"))?;
    let at = Whereabouts { address: address.to_owned(), encrypted };
    if !encrypted {
        return Ok((at, endpoint));
    }
    let endpoint = endpoint.tls_config(tls(access)).map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("etcd endpoint {text:?} can't be used ({why}): set discovery.etcd_ca_file")
    })?;
    Ok((at, endpoint))
}

fn tls(access: &EtcdAccess) -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    let config = match &access.authorities {
        Some(authorities) => config.ca_certificate(Certificate::from_pem(authorities.pem())),
        None => config.with_native_roots(),
    };
    match &access.identity {
        Some(ours) => config.identity(Identity::from_pem(ours.certificates(), ours.expose_key())),
        None => config,
    }
}

impl Connection {
    /// Awaits an answer, but not forever. (tonic's own timeout begins only after the connect and
    /// does not cover a body that never ends; it is not used.)
    pub(super) async fn answer<T: Answer>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.request_timeout, call).await {
            Ok(Ok(answer)) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.fault_of(&error)),
            Err(_) => Err(unanswered(&self.at, T::QUESTION, self.request_timeout)),
        }
    }

    /// A fault of this connection.
    pub(super) fn fault(&self, what: impl fmt::Display) -> Fault {
        Fault::Unreachable(format!("etcd at {}: {what}", self.at.address))
    }

    /// What an error of the client means.
    pub(super) fn fault_of(&self, error: &ClientError) -> Fault {
        self.at.fault_of(error, self.answered.load(Ordering::Relaxed))
    }
}

fn unanswered(at: &Whereabouts, question: &str, limit: Duration) -> Fault {
    let address = &at.address;
    Fault::Unreachable(format!("etcd at {address} did not answer {question} within {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(endpoints: &[&str]) -> Result<Endpoints, String> {
        let endpoints = endpoints.iter().map(|text| (*text).to_owned()).collect();
        Endpoints::parse(&EtcdOptions { endpoints, ..EtcdOptions::default() })
    }

    #[test]
    fn endpoints_are_host_and_port_with_or_without_http() {
        let names = |endpoints| {
            parse(endpoints).map(|e| e.all.into_iter().map(|(at, _)| at.address).collect())
        };
        let good: Result<Vec<String>, _> =
            names(&["a:2379", " http://b:1/ ", "[::1]:2", "https://c:3"]);
        assert_eq!(good.unwrap(), ["a:2379", "b:1", "[::1]:2", "c:3"]);
        for bad in ["", "host", "unix://a:1", "a:0", "a:1/path", "a b:1", "a:99999"] {
            assert!(parse(&[bad]).unwrap_err().contains("use host:port"), "{bad:?}");
        }
        assert!(parse(&[]).unwrap_err().contains("no etcd endpoint"));
    }

    #[tokio::test]
    async fn endpoints_are_tried_in_turn_and_failures_name_them() {
        // Port 1 of the loopback is not listened on, and no listener can be there by chance.
        let mut endpoints = parse(&["127.0.0.1:1", "127.0.0.2:1"]).unwrap();
        for name in ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.1:1"] {
            let why = endpoints.connect().await.err().unwrap().in_words();
            assert!(why.contains(name) && why.contains("refused"), "{why}");
        }
    }
}

//! Connections to etcd, one endpoint at a time, and what their failures mean in plain words.

use std::{error::Error as _, future::Future, time::Duration};

use etcd_client::{Channel, Client, ConnectOptions, Error as ClientError};
use tonic::{Code, transport::Endpoint};

use super::EtcdOptions;

/// How often an idle connection is checked. etcd hangs up on clients that do it more often than
/// every 5 s.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to such a check may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

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

/// The endpoints, tried in turn.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    all: Vec<(String, Endpoint)>,
    next: usize,
    connect_timeout: Duration,
    request_timeout: Duration,
}

/// A client of one endpoint.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    name: String,
    request_timeout: Duration,
}

impl Endpoints {
    /// Reads the endpoints; says in plain words what is wrong with them.
    pub(super) fn parse(options: &EtcdOptions) -> Result<Self, String> {
        let &EtcdOptions { connect_timeout, request_timeout, .. } = options;
        let parse = |text: &String| {
            let address = text.trim();
            let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
            let bad = |why: &str| format!("etcd endpoint {text:?} {why}: use host:port");
            if address.contains("://") {
                return Err(bad("is not plain http"));
            }
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.filter(|port| *port > 0).ok_or_else(|| bad("has no port"))?;
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|_| bad("is not an address"))?
                .connect_timeout(connect_timeout)
                .timeout(request_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            Ok((address.to_owned(), endpoint))
        };
        let all = options.endpoints.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            return Err("no etcd endpoint is configured".into());
        }
        Ok(Self { all, next: 0, connect_timeout, request_timeout })
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

    /// Connects to the next endpoint.
    pub(super) async fn connect(&mut self) -> Result<Connection, Fault> {
        let (name, endpoint) = &self.all[self.next % self.all.len()];
        self.next = (self.next + 1) % self.all.len();
        let connecting = async {
            let channel = Channel::Tonic(endpoint.connect().await?);
            // No credentials: nothing is sent here yet.
            let options = ConnectOptions::new().with_require_leader(true);
            Client::from_channel(channel, Some(options.with_auto_token_refresh(true))).await
        };
        let client = within(name, self.connect_timeout, connecting).await?;
        Ok(Connection { client, name: name.clone(), request_timeout: self.request_timeout })
    }
}

impl Connection {
    /// Awaits an answer, but not forever. tonic's own timeout begins only after the connect and
    /// does not cover a body that never ends.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Fault> {
        within(&self.name, self.request_timeout, call).await
    }

    /// A fault of this connection.
    pub(super) fn fault(&self, what: impl std::fmt::Display) -> Fault {
        Fault::Unreachable(format!("etcd at {}: {what}", self.name))
    }

    /// What an error of the client means.
    pub(super) fn fault_of(&self, error: &ClientError) -> Fault {
        fault_of(&self.name, error)
    }
}

async fn within<T>(
    name: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| fault_of(name, &error)),
        Err(_) => Err(Fault::Unreachable(format!("etcd at {name} did not answer in {limit:?}"))),
    }
}

fn fault_of(name: &str, error: &ClientError) -> Fault {
    match error {
        ClientError::GRpcStatus(status) if status.code() == Code::NotFound => Fault::NoLease,
        // The crate's way to say that a renewal was answered with a ttl of 0.
        ClientError::LeaseKeepAliveError(_) => Fault::NoLease,
        ClientError::GRpcStatus(status) => {
            let why = deepest(status.source()).unwrap_or_else(|| status.message().to_owned());
            Fault::Unreachable(format!("etcd at {name}: {why}"))
        }
        ClientError::TransportError(error) => {
            let why = deepest(error.source()).unwrap_or_else(|| error.to_string());
            Fault::Unreachable(format!("etcd at {name} can't be reached: {why}"))
        }
        other => Fault::Unreachable(format!("etcd at {name}: {other}")),
    }
}

/// The last of a chain of causes, which is the one that tells.
fn deepest(mut error: Option<&(dyn std::error::Error + 'static)>) -> Option<String> {
    let mut last = None;
    while let Some(cause) = error {
        last = Some(cause.to_string());
        error = cause.source();
    }
    last
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
        let names =
            |endpoints| parse(endpoints).map(|e| e.all.into_iter().map(|(n, _)| n).collect());
        let good: Result<Vec<String>, _> = names(&["a:2379", " http://b:1/ ", "[::1]:2"]);
        assert_eq!(good.unwrap(), ["a:2379", "b:1", "[::1]:2"]);
        for bad in ["", "host", "https://a:1", "a:0", "a:1/path", "a b:1", "a:99999"] {
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

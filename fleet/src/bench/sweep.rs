//! Sends requests once, one after the other, and looks at every answer.
//!
//! The load generator only counts; so before it starts, all it will ask for is asked here. A right
//! answer to each, and how much it weighs, is what the rounds are held against.

use std::net::SocketAddr;

use futures_util::future::try_join_all;

use super::ask::{self, Ask};
use crate::http::{Connection, HttpError};

/// How many connections share the requests.
const CONNECTIONS: usize = 8;

/// What was asked for once did not come.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// There was no answer.
    #[error("{path}: {source}")]
    Http {
        /// Of what.
        path: String,
        /// Why not.
        source: HttpError,
    },
    /// There was, but not the right one.
    #[error("{method} {path} was {complaint}")]
    Wrong {
        /// The request's method.
        method: &'static str,
        /// Its path.
        path: String,
        /// The answer's status.
        status: u16,
        /// What is wrong with it.
        complaint: String,
    },
}

impl SweepError {
    /// Whether the server does not know such a request, or not in this form.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Wrong { status: 400 | 404 | 405 | 501, .. })
    }
}

/// Sends all, and returns what each answer weighs on the wire, in bytes.
pub(super) async fn sweep(address: SocketAddr, asks: &[Ask]) -> Result<Vec<usize>, SweepError> {
    let share = asks.len().div_ceil(CONNECTIONS).max(1);
    let parts = asks.chunks(share).map(|part| sweep_part(address, part));
    Ok(try_join_all(parts).await?.concat())
}

async fn sweep_part(address: SocketAddr, asks: &[Ask]) -> Result<Vec<usize>, SweepError> {
    let mut connection = None;
    let mut weights = Vec::with_capacity(asks.len());
    for ask in asks {
        weights.push(send(address, &mut connection, ask).await?);
    }
    Ok(weights)
}

/// A server may close a connection between two requests: then there is another try.
async fn send(
    address: SocketAddr,
    connection: &mut Option<Connection>,
    ask: &Ask,
) -> Result<usize, SweepError> {
    let failed = |source| SweepError::Http { path: ask.path.clone(), source };
    let request = || ask.request().map_err(HttpError::from).map_err(failed);
    let open = || async { Connection::open(address).await.map_err(failed) };
    let mut open_connection = match connection.take() {
        Some(connection) => connection,
        None => open().await?,
    };
    let answer = match open_connection.send(request()?).await {
        Err(HttpError::Closed) => {
            open_connection = open().await?;
            open_connection.send(request()?).await
        }
        done => done,
    };
    let answer = answer.map_err(failed)?;
    *connection = Some(open_connection);
    match ask.complaint(&answer) {
        None => Ok(ask::wire_bytes(&answer)),
        Some(complaint) => Err(SweepError::Wrong {
            method: ask.method,
            path: ask.path.clone(),
            status: answer.status,
            complaint,
        }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bench::{ask::Dialect, plan::Workload};

    /// A server in this process that answers everything with `value`.
    async fn server(value: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(move || async move { value });
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    #[tokio::test]
    async fn every_answer_is_weighed() {
        let address = server("12345").await;
        let value = Bytes::from("other");
        let asks: Vec<Ask> =
            (0..20).map(|key| Dialect::Constant.get(&key.to_string(), &value)).collect();
        let weights = sweep(address, &asks).await.unwrap();
        assert_eq!(weights.len(), 20);
        assert!(weights.iter().all(|&bytes| bytes > 5 && bytes == weights[0]), "{weights:?}");
        assert!(sweep(address, &[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_wrong_answer_ends_it() {
        let address = server("12345").await;
        let work = Workload { keys: 3, ..Workload::default() };
        let asks: Vec<Ask> = (0..3)
            .map(|key| Dialect::ReadOnly.get(&super::super::key_name(key), &work.value(key)))
            .collect();
        let error = sweep(address, &asks).await.unwrap_err();
        assert!(error.to_string().contains("answered 200 with 5 bytes"), "{error}");
        assert!(!error.is_refusal());
    }
}

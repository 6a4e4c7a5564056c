//! A bound socket, and why one could not be bound.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Connections the kernel holds for us until we accept them.
pub(super) const BACKLOG: u32 = 1024;

/// A socket that listens; clients can connect already, [`serve`](super::serve) answers them.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", mend(.source))]
pub struct BindError {
    /// The address as it was asked for.
    pub address: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "another process has that port: stop it or choose another one",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 up",
        _ => "give it as host:port",
    }
}

impl Listener {
    /// Binds `host:port`; of a name's several addresses the first that can be bound. Port 0 means
    /// any free one.
    ///
    /// # Errors
    /// [`BindError`] when the name does not resolve or the port is taken: two processes never
    /// share one.
    pub async fn bind(address: &str) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.to_owned(), source };
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for candidate in lookup_host(address).await.map_err(failed)? {
            match listen(candidate) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for old connections in TIME_WAIT, which inherit this flag and need it
    // on both sides. SO_REUSEADDR still refuses a port that somebody listens on (SO_REUSEPORT
    // would not). For port 0 it is set after the choice: before, that could fall on a port that is
    // bound with the flag and not listening yet.
    if address.port() != 0 {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.set_reuseaddr(true)?;
    let socket = socket.listen(BACKLOG)?;
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_had_by_one_listener_only() {
        let first = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().to_string();
        let error = Listener::bind(&address).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains("another process"), "{text}");

        // ... and can be had again at once, though connections of the first linger.
        let client = std::net::TcpStream::connect(&address).unwrap();
        let (accepted, _) = first.socket.accept().await.unwrap();
        drop((accepted, first)); // the server closes first: its side goes to TIME_WAIT
        drop(client);
        Listener::bind(&address).await.unwrap();
    }

    #[tokio::test]
    async fn a_wrong_address_says_what_is_wanted() {
        let error = Listener::bind("nonsense").await.unwrap_err();
        assert!(error.to_string().contains("host:port"), "{error}");
    }
}

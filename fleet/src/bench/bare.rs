//! The limit: an axum server that answers everything with the same bytes. It runs as a process of
//! its own, `load --bare BYTES`, on one thread as its makers recommend for this.

use std::io;

use axum::{Router, routing::any};
use bytes::Bytes;
use tokio::net::TcpListener;

/// What the responder prints before its address once it listens.
pub const LISTENS: &str = "bare responder at ";

/// Serves until the process is killed.
///
/// # Errors
/// When no port can be had.
pub async fn serve(value_bytes: usize) -> io::Result<()> {
    let value = Bytes::from(vec![b'x'; value_bytes]);
    let app = Router::new().fallback(any(move || {
        let value = value.clone();
        async move { value }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{LISTENS}{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

//! `POST /api/cache/batch`: many keys, read, written and deleted by one request.
//!
//! The operations are independent of each other and not ordered; each has an outcome of its own,
//! told in the order of the request. A batch that can't be understood is refused before anything
//! of it is done.

mod answer;
mod item;
mod json;
mod order;
mod page;
mod reads;
mod request;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use common::error::{Code, Error, Result};
use http::request::Parts;
use tokio::time::Instant;

use super::{
    AppState, Worker,
    body::{self, Whole},
    cache::whole_and_plain,
    target,
};
use crate::metrics::Operation;
use answer::Answer;

/// The largest body that is read; its values are a part of it.
const MAX_BODY_BYTES: usize = 16 << 20;

/// The handler.
pub(super) async fn run(State(worker): AppState, request: Request) -> Response {
    let started = Instant::now();
    let counted = worker.metrics.begun(Operation::Batch);
    let (parts, body) = request.into_parts();
    let _admitted = match worker.admission.admit() {
        Ok(admitted) => admitted,
        Err(overload) => {
            body::discard(&parts.headers, body);
            counted.shed();
            return worker.refuse(&overload);
        }
    };
    let response = match understood(&worker, &parts, body).await {
        Ok((batch, _body)) => Answer::begin(&worker, batch).into_response().await,
        Err(error) => worker.refuse(&error),
    };
    counted.done(response.status(), started.elapsed());
    response
}

/// The batch, and its body as it is counted.
async fn understood(worker: &Worker, parts: &Parts, body: Body) -> Result<(request::Batch, Whole)> {
    let checked = target::check_length(&parts.uri).and_then(|()| whole_and_plain(&parts.headers));
    if let Err(error) = checked {
        body::discard(&parts.headers, body);
        return Err(error);
    }
    let budget = &worker.process.bodies;
    let body = body::read_or(&parts.headers, body, MAX_BODY_BYTES, budget, too_large).await?;
    let batch = request::parse(&body.bytes, |group| worker.process.max_value(group.as_str()))?;
    Ok((batch, body))
}

fn too_large(limit: usize) -> Error {
    Error::new(Code::TooLarge, format!("the batch is over {limit} bytes: send it in parts"))
}

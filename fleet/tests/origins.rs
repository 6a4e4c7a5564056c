//! Groups whose missing values are asked for: what the answers become in HTTP, how often an origin is
//! asked, and what happens while it is slow, failing, or its keys' owner is gone.
#![allow(clippy::unwrap_used)]

#[path = "support/api.rs"]
mod api;
#[path = "origins/asking.rs"]
mod asking;
#[path = "origins/custom.rs"]
mod custom;
#[path = "origins/files.rs"]
mod files;
#[path = "origins/http.rs"]
mod http;
#[path = "origins/redis.rs"]
mod redis;
#[path = "origins/sql.rs"]
mod sql;

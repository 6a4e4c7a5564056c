//! Real processes and a real etcd: who is a member, who owns what, and what requests see of it.
#![allow(clippy::unwrap_used)]

mod commands;
mod joining;
mod leaving;
mod registry;
mod settings;
mod support;
mod told;

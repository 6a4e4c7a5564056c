//! The node's executable: parse, start, wait, drain.

use std::{process::ExitCode, sync::Arc};

use cachenode::Node;
use common::{clock::SystemClock, config::flags::NodeFlags, startup};

/// It gives back what small values leave behind when large ones come, also when nothing happens any
/// more (ADR 009). How soon is set where it is built, in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    startup::run::<NodeFlags, _>(|settings, discovery, lifecycle| async move {
        Node::start(&settings, discovery, Arc::new(SystemClock), &lifecycle).await?;
        Ok(())
    })
}

//! The gateway's executable: parse, start, wait, drain.

use std::{process::ExitCode, sync::Arc};

use apiserver::Gateway;
use common::{clock::SystemClock, config::flags::GatewayFlags, startup};

/// A request allocates some dozens of small things; this allocator takes half the time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    startup::run::<GatewayFlags, _>(|settings, discovery, lifecycle| async move {
        Gateway::start(&settings, discovery, Arc::new(SystemClock), &lifecycle).await?;
        Ok(())
    })
}

//! The gateway's executable: parse, start, wait, drain.

use std::{process::ExitCode, sync::Arc};

use apiserver::Gateway;
use common::{clock::SystemClock, config::flags::GatewayFlags, startup};

fn main() -> ExitCode {
    startup::run::<GatewayFlags, _>(|settings, discovery, lifecycle| async move {
        Gateway::start(&settings, discovery, Arc::new(SystemClock), &lifecycle).await?;
        Ok(())
    })
}

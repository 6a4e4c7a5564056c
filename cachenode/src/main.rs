//! The node's executable: parse, start, wait, drain.

use std::{process::ExitCode, sync::Arc};

use cachenode::Node;
use common::{clock::SystemClock, config::flags::NodeFlags, startup};

fn main() -> ExitCode {
    startup::run::<NodeFlags, _>(|settings, discovery, lifecycle| async move {
        Node::start(&settings, discovery, Arc::new(SystemClock), &lifecycle).await?;
        Ok(())
    })
}

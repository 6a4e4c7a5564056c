//! The node's executable has the allocator that it is meant to have, set as it is meant to be.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// What `.cargo/config.toml` builds in, as jemalloc says it.
const SET: [&str; 3] =
    ["opt.background_thread: true", "opt.dirty_decay_ms: 1000", "opt.muzzy_decay_ms: 0"];

#[test]
fn free_memory_is_given_back_also_while_nothing_happens() {
    // Without a prefix to the name, the variable is of a jemalloc in place of the C library's.
    let output = Command::new(env!("CARGO_BIN_EXE_cachenode"))
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for setting in SET {
        let is_set = said.lines().any(|line| line.trim_start().starts_with(setting));
        assert!(is_set, "no `{setting}` in what the allocator says of itself:\n{said}");
    }
}

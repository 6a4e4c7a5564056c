//! The origin of kind `sql` in a node that was built without it: refused at the start, by its feature.

use std::sync::Arc;

use common::config::SqlSettings;

use super::Origin;

/// # Errors
/// Always: how to build a node that has it.
pub(crate) fn origin(_: &SqlSettings, _: u64) -> Result<Arc<dyn Origin>, String> {
    let text =
        "origin.kind: this cachenode was built without \"sql\": build it with `--features sql`";
    Err(text.to_owned())
}

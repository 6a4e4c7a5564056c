//! How a process ends: the two tokens that everything long-lived listens to.

use tokio_util::sync::CancellationToken;

/// Two phases of stopping: `soft` asks to finish, `hard` to let go at once.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Finish what is under way, take on nothing new.
    pub soft: CancellationToken,
    /// Drop everything now.
    pub hard: CancellationToken,
}

impl Stop {
    /// Two fresh tokens.
    pub fn new() -> Self {
        Self { soft: CancellationToken::new(), hard: CancellationToken::new() }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

//! The table of promises, and what counts as failed.

use std::time::Duration;

use crate::{
    history::{Ended, GroupKind},
    recorder::status_fails,
};

/// How long after healing an older value may still be read where the table permits any.
pub(super) const BOUNDED_STALENESS: Duration = Duration::from_secs(10);

/// What a group does while a gateway and the next node are cut from an owner. At any other time
/// all kinds that can be judged promise the same: nothing older, and no failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    /// It may answer with an older value.
    pub(super) older_when_cut_off: bool,
    /// It answers 503.
    pub(super) refuses_when_cut_off: bool,
}

pub(super) const CACHE_AVAILABLE: Promise =
    Promise { older_when_cut_off: true, refuses_when_cut_off: false };
const CACHE_STRICT: Promise = Promise { older_when_cut_off: false, refuses_when_cut_off: true };

/// What groups of that kind promise; none if they are not built.
pub(super) fn promise(kind: GroupKind) -> Option<Promise> {
    match kind {
        GroupKind::CacheAvailable => Some(CACHE_AVAILABLE),
        GroupKind::CacheStrict => Some(CACHE_STRICT),
        GroupKind::CacheReplicasOne
        | GroupKind::CacheReplicasAll
        | GroupKind::Durable
        | GroupKind::DurableReplicas => None,
    }
}

/// The word under which a row may name an outcome that else counts as failed.
pub(super) fn refusal(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Value(_) | Ended::Stored | Ended::Missing => None,
        Ended::Refused(status, _) => status_fails(*status).then(|| status.to_string()),
        Ended::Reset => Some("reset".to_owned()),
        Ended::NoAnswer => Some("none".to_owned()),
    }
}

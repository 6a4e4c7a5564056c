//! Which state of the cluster a process has seen, and how that is told to others.
//!
//! What two processes with different epochs do about it is the business of `route` and of nodes.

use proto::v1;
use uuid::Uuid;

use crate::error::{Code, Error, Result};

/// A state of the cluster. Before anything is known, all zero but the digest of the empty ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// The life of the cluster state; another one after it was wiped.
    pub generation: Uuid,
    /// The revision up to which history has been seen. Comparable within one generation only.
    pub as_of: u64,
    /// The ring's digest. Equal digests: the same ring.
    pub digest: u64,
}

impl Epoch {
    /// The epoch in a frame.
    pub fn to_wire(self) -> v1::Epoch {
        let generation = self.generation.into_bytes().to_vec().into();
        v1::Epoch { generation, as_of: self.as_of, digest: self.digest }
    }

    /// The epoch of a frame.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the generation is not 16 bytes.
    pub fn from_wire(wire: &v1::Epoch) -> Result<Self> {
        let generation = Uuid::from_slice(&wire.generation).map_err(|_| {
            let length = wire.generation.len();
            let message = format!("the epoch's generation is {length} bytes long, not 16");
            Error::new(Code::InvalidRequest, message)
        })?;
        Ok(Self { generation, as_of: wire.as_of, digest: wire.digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_survives_the_wire() {
        let epoch = Epoch { generation: Uuid::from_u128(1 << 100), as_of: 7, digest: u64::MAX };
        assert_eq!(Epoch::from_wire(&epoch.to_wire()).unwrap(), epoch);
    }

    #[test]
    fn a_generation_of_another_length_is_refused() {
        let wire = v1::Epoch { generation: vec![1; 15].into(), as_of: 1, digest: 1 };
        let error = Epoch::from_wire(&wire).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest);
        assert!(Epoch::from_wire(&v1::Epoch::default()).is_err());
    }
}

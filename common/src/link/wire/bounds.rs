//! What a frame may hold, looked at before it is read.
//!
//! A value may be large, so a message may be; but in memory a small operation takes a hundred times
//! the two bytes it can be written in, and a message full of them would take ten gigabytes. What
//! its operations say is not judged here.

use super::read::ReadError;
use crate::link::frame::{HINTS_PER_OPERATION, MAX_BATCH_BYTES, MAX_BATCH_OPS};

/// Versions that the conditions of a batch may name. The head of an HTTP request, where they come
/// from, has no room for as many.
pub(super) const MAX_VERSIONS: usize = 1024;
/// Keys that the hints of a batch may name.
pub(super) const MAX_HINTED: usize = MAX_BATCH_OPS * HINTS_PER_OPERATION;
/// From a batch to its operations, and on to the versions of their conditions: field numbers of
/// `cache.proto`.
const OPS: [u64; 1] = [4];
const VERSIONS: [u64; 4] = [4, 2, 11, 3];
/// From a batch to its hints' keys.
const HINTED: [u64; 3] = [4, 24, 1];

/// Refuses a message whose small parts would take far more room than their bytes. Below their
/// operations only those of large messages are counted: in a small one they can't do harm, and nearly
/// all messages are small.
pub(super) fn check(message: &[u8]) -> Result<(), ReadError> {
    if count(message, &OPS, MAX_BATCH_OPS) > MAX_BATCH_OPS {
        return Err(ReadError::TooManyOps);
    }
    if message.len() <= MAX_BATCH_BYTES {
        return Ok(());
    }
    if count(message, &VERSIONS, MAX_VERSIONS) > MAX_VERSIONS {
        return Err(ReadError::TooManyVersions);
    }
    if count(message, &HINTED, MAX_HINTED) > MAX_HINTED {
        return Err(ReadError::TooManyHinted);
    }
    Ok(())
}

/// How many fields there are at the end of that path; counts to a little over `most`.
fn count(message: &[u8], path: &[u64], most: usize) -> usize {
    let [field, deeper @ ..] = path else { return 1 };
    let mut counted = 0;
    for (_, content) in Fields(message).filter(|(number, _)| number == field) {
        counted += count(content, deeper, most);
        if counted > most {
            break;
        }
    }
    counted
}

/// The fields of a message: number, and content where that has a length. It ends where the
/// message can't be read any further, and never before prost would.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let key = varint(&mut self.0)?;
        let length = match key & 7 {
            0 => {
                varint(&mut self.0)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut self.0)?).ok()?,
            // Groups, which we have none of: what is inside counts as if it were outside.
            3 | 4 => 0,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((key >> 3, content))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::v1::{Batch, Condition, Op, Request, op::Kind};

    use super::*;
    use crate::link::wire::read_batch;

    fn batch(ops: usize, versions: usize) -> Vec<u8> {
        let condition =
            Condition { if_version: vec![Default::default(); versions], ..Default::default() };
        let request = Request {
            group: "g".repeat(300),
            value: vec![7; 1000].into(),
            ttl_ms: u64::MAX,
            op_seq: 300,
            condition: Some(Box::new(condition)),
            ..Default::default()
        };
        let op = Op { id: u64::MAX, kind: Some(Kind::Request(request)) };
        let hello = Some(proto::v1::Hello { features: 1, ..Default::default() });
        let epoch = Some(proto::v1::Epoch { digest: 4, ..Default::default() });
        Batch { hello, epoch, stamp_us: u64::MAX, ops: vec![op; ops] }.encode_to_vec()
    }

    #[test]
    fn operations_and_versions_are_counted_as_prost_reads_them() {
        for (ops, versions) in [(0, 0), (1, 0), (3, 5), (64, 1)] {
            let message = batch(ops, versions);
            assert_eq!(count(&message, &OPS, 100), ops);
            assert_eq!(count(&message, &VERSIONS, 1000), ops * versions);
            for end in 0..message.len().min(3000) {
                let counted = count(&message[..end], &OPS, 100);
                let whole = Batch::decode(&message[..end]).map_or(0, |batch| batch.ops.len());
                assert!(counted >= whole, "cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_out_of_proportion_is_refused() {
        let check = |message: Vec<u8>| read_batch(&message.into()).map(drop);
        assert!(check(batch(MAX_BATCH_OPS, 1)).is_ok());
        assert!(matches!(check(batch(MAX_BATCH_OPS + 1, 0)), Err(ReadError::TooManyOps)));
        assert!(matches!(check(b"\x22\x00".repeat(1 << 20)), Err(ReadError::TooManyOps)));
        assert!(matches!(check(b"\x22\x00".repeat(100)), Err(ReadError::TooManyOps)));
        assert!(check(batch(1, 2000)).is_ok(), "small all the same");
        let versions = check(batch(1, MAX_BATCH_BYTES));
        assert!(matches!(versions, Err(ReadError::TooManyVersions)));
        let hint = |keys: usize| {
            let keys =
                vec![proto::v1::HintedKey { key: "k".repeat(16), ..Default::default() }; keys];
            let kind = Some(Kind::Hint(proto::v1::Hint { keys, ..Default::default() }));
            Batch { ops: vec![Op { id: 1, kind }], ..Batch::default() }.encode_to_vec()
        };
        assert!(check(hint(MAX_HINTED)).is_ok());
        assert!(matches!(check(hint(MAX_HINTED + 1)), Err(ReadError::TooManyHinted)));
    }
}

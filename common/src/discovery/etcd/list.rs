//! Reads the whole cluster state as of one revision, page by page.

use etcd_client::{GetOptions, KeyValue};

use super::connection::{Connection, Fault};
use crate::discovery::mirror::Entry;

/// Keys to a page. Records are small, but anything that etcd stores (1.5 MiB) may be among them,
/// and a page must fit into [`MAX_ANSWER_BYTES`].
const PAGE: i64 = 32;
/// Largest answer that is read.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Everything under a prefix as of one revision.
pub(super) struct Listing {
    pub(super) revision: u64,
    keys: Vec<KeyValue>,
}

impl Listing {
    pub(super) async fn read(connection: &Connection, prefix: &str) -> Result<Self, Fault> {
        let mut kv = connection.client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES);
        let mut listing = Self { revision: 0, keys: Vec::new() };
        let mut from = prefix.as_bytes().to_vec();
        loop {
            // Later pages are of the revision that the first one was; it is an error if that is
            // compacted meanwhile, and then everything begins again.
            let options = GetOptions::new()
                .with_range(end_of(prefix))
                .with_limit(PAGE)
                .with_revision(listing.revision as i64);
            let mut page = connection.answer(kv.get(from, Some(options))).await?;
            if listing.revision == 0 {
                listing.revision = revision(page.header());
            }
            listing.keys.extend(page.take_kvs());
            let Some(last) = listing.keys.last().filter(|_| page.more()) else {
                return Ok(listing);
            };
            from = [last.key(), b"\0"].concat();
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.keys.iter().map(entry)
    }
}

pub(super) fn entry(key: &KeyValue) -> Entry<'_> {
    Entry {
        key: key.key(),
        value: key.value(),
        mod_revision: key.mod_revision().unsigned_abs(),
        leased: key.lease() != 0,
    }
}

/// The revision in an answer's header.
pub(super) fn revision(header: Option<&etcd_client::ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.revision().unsigned_abs())
}

/// The first key after all that begin with `prefix`, which ends with a slash.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

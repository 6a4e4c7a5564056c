//! Which connections a listener holds, as the kernel says: a client that does not read can't tell
//! that it was cut off.

use std::{collections::HashSet, fs};

/// Connections that the server's program has not given up, in the kernel's numbers: established,
/// and closed by the client only.
const HELD: [&str; 2] = ["01", "08"];

/// The connections over the loopback that a process holds: its port and its client's.
pub(crate) fn held() -> HashSet<(u16, u16)> {
    connections(&fs::read_to_string("/proc/net/tcp").unwrap())
}

fn connections(table: &str) -> HashSet<(u16, u16)> {
    let port_of = |address: &str| u16::from_str_radix(address.split(':').nth(1)?, 16).ok();
    let connection = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        HELD.contains(&state).then_some((port_of(local)?, port_of(remote)?))
    };
    table.lines().filter_map(connection).collect()
}

#[test]
fn only_what_a_process_holds_is_counted() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0\n\
        1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:0\n\
        2: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:0\n\
        3: 0100007F:1F90 0100007F:C002 08 00000000:00000000 00:0\n\
        4: 0100007F:1F90 0100007F:C003 06 00000000:00000000 00:0\n";
    let expected = [(0x1F90, 0xC001), (0xC001, 0x1F90), (0x1F90, 0xC002)];
    assert_eq!(connections(table), HashSet::from(expected));
}

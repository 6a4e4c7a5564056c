//! Which connections a listener holds, as the kernel says: a client that does not read can't tell
//! that it was cut off.

use std::{collections::HashSet, fs, net::SocketAddr};

/// Connections that the server's program has not given up, in the kernel's numbers: established,
/// and closed by the client only.
const HELD: [&str; 2] = ["01", "08"];

/// The clients' ports of the connections to `listener` that its process holds. Loopback, IPv4.
pub(crate) fn held(listener: SocketAddr) -> HashSet<u16> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    clients(&table, listener.port())
}

fn clients(table: &str, port: u16) -> HashSet<u16> {
    let port_of = |address: &str| u16::from_str_radix(address.split(':').nth(1)?, 16).ok();
    let client = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        (port_of(local) == Some(port) && HELD.contains(&state)).then(|| port_of(remote))?
    };
    table.lines().filter_map(client).collect()
}

#[test]
fn only_what_the_server_holds_is_counted() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0\n\
        1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:0\n\
        2: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:0\n\
        3: 0100007F:1F90 0100007F:C002 08 00000000:00000000 00:0\n\
        4: 0100007F:1F90 0100007F:C003 06 00000000:00000000 00:0\n";
    assert_eq!(clients(table, 0x1F90), HashSet::from([0xC001, 0xC002]));
}

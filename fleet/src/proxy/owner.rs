//! Which process a loopback connection belongs to, as /proc tells.
//!
//! A socket is found by its two addresses in /proc/net/tcp, which names its inode, and a process
//! has it if one of its descriptors is that inode. This needs no root for processes of our own
//! user. IPv4 only: the harness uses nothing else.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4},
};

/// The other end of an accepted connection.
#[derive(Debug)]
pub(super) struct Owner {
    client: SocketAddr,
    proxy: SocketAddr,
    inode: Option<u64>,
    /// Once found it stays: a client that closes its socket is still the one who opened it.
    found: Option<u32>,
}

impl Owner {
    /// Of the connection from `client` to us at `proxy`.
    pub(super) fn new(client: SocketAddr, proxy: SocketAddr) -> Self {
        Self { client, proxy, inode: None, found: None }
    }

    /// Whose it is can be told without looking it up.
    pub(super) fn is_known(&self) -> bool {
        self.found.is_some()
    }

    /// Whether that process has it. This may take a while.
    pub(super) fn is(&mut self, pid: u32) -> bool {
        if let Some(found) = self.found {
            return found == pid;
        }
        if self.inode.is_none() {
            let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            self.inode = inode(&table, self.client, self.proxy);
        }
        if self.inode.is_some_and(|inode| has(pid, inode)) {
            self.found = Some(pid);
        }
        self.found == Some(pid)
    }
}

/// The inode of the socket with these addresses, in a table like /proc/net/tcp.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else { return None };
    // There may be tens of thousands of lines, most of them of connections that are over.
    let addresses = format!(" {} {} ", in_table(local), in_table(remote));
    let (_, rest) = table.split_once(&addresses)?;
    // A socket that nobody has any more has inode 0.
    rest.split_whitespace().nth(6)?.parse().ok().filter(|&inode| inode != 0)
}

/// An address as the kernel prints it: the four bytes as one number of the machine.
fn in_table(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Whether one of the process's descriptors is that socket.
fn has(pid: u32, inode: u64) -> bool {
    let socket = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process,
    };

    use super::*;

    #[test]
    fn a_connection_is_found_by_its_process_and_only_by_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, address) = listener.accept().unwrap();
        let mut owner = Owner::new(address, server.local_addr().unwrap());
        assert!(!owner.is(1), "not init's");
        assert!(owner.is(process::id()));
        drop(client);
        assert!(owner.is(process::id()), "it stays known");
    }

    #[test]
    fn nobody_has_what_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, address) = listener.accept().unwrap();
        drop(client);
        let mut owner = Owner::new(address, server.local_addr().unwrap());
        assert!(!owner.is(process::id()));
    }
}

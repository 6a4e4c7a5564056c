//! What `make run` tells whoever started it: lines to paste that work.

use std::fmt::Write;

use crate::local::{LocalFleet, Registry};

/// The greeting of a fleet that has just started.
pub fn welcome(fleet: &LocalFleet, registry: &Registry) -> String {
    let api = fleet.gateway();
    let mut text = format!("Ringway is running: a gateway at http://{api} and these nodes:\n");
    for node in fleet.nodes() {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {}  gRPC; probes and metrics at http://{}",
            node.grpc_address(),
            node.http_address()
        );
    }
    let found = match registry {
        Registry::Memory => "in memory".to_owned(),
        Registry::Etcd(endpoints) => format!("through etcd at {}", endpoints.join(", ")),
    };
    let _ = write!(
        text,
        "They find each other {found}. Try:\n
  curl 'http://{api}/api/cache?group=scores&key=Tom'
  curl -X PUT 'http://{api}/api/cache?group=default&key=hello&ttl=1h' -d 'world'
  curl -i 'http://{api}/api/cache/default/hello'
  curl -X DELETE 'http://{api}/api/cache/default/hello'
  curl 'http://{api}/api/nodes'
  curl 'http://{api}/api/ring?group=scores&key=Tom'
  curl 'http://{api}/api/groups'
\nCtrl-C ends it."
    );
    text
}

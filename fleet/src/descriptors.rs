//! Room for many connections in the process of a test. Processes that it starts have the same.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors of a process beside those of its connections.
const OTHERS: u64 = 512;

/// Lets this process have that many connections.
///
/// # Panics
/// When it may not, with what is to be done about it.
pub fn make_room(connections: usize) {
    let needed = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|hard| hard >= needed),
        "this test needs {needed} open files and may have {:?}: run it after `ulimit -Hn {needed}` as \
         root, or with LimitNOFILE={needed}",
        limit.maximum,
    );
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the limit may be raised to its maximum");
}

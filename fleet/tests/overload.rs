//! More work than can be done: rows 24 and 25 of the fault matrix, and what bounds a gateway and a
//! node when everybody asks at once.
//!
//! Short forms run with every `make test` and assert no times. The long form of row 24 needs two
//! cores, one for the fleet and one for its client: on one they would measure each other.

#![allow(clippy::unwrap_used)]

mod overload {
    mod asking;
    mod bodies;
    mod fair;
    mod full;
    mod late;
    mod tiny;
    mod twice;
}

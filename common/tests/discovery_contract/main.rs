//! The contract that every discovery backend keeps, run against each of them, and what only etcd
//! can go through. etcd is a real one (`make tools` gets it), except where it has to lie.
#![allow(clippy::unwrap_used)]

mod backend;
mod etcd;
mod etcd_access;
mod etcd_damping;
mod etcd_disaster;
mod etcd_faults;
mod etcd_outages;
mod etcd_server;
mod etcd_settling;
mod etcd_snapshot;
mod etcd_words;
mod fake_etcd;
mod fake_leases;
mod fake_lists;
mod fake_watches;
mod fixed;
mod gate;
mod memory;
mod suite;

/// One test per function of the suite and backend.
macro_rules! contract {
    ($name:ident, $backend:ty: $($test:ident)*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    super::suite::$test::<$backend>().await;
                }
            )*
        }
    };
    ($($name:ident = $backend:ty),*) => {
        $(contract!($name, $backend:
            a_registration_is_seen_by_others
            a_later_handle_sees_what_was_and_what_comes
            a_lost_lease_is_replaced
            a_deleted_record_comes_back
            a_live_twin_keeps_the_id_until_it_is_dead
            a_dead_twin_is_replaced_at_once
            a_restart_at_the_same_address_takes_over_at_once
            a_crashed_node_stays_until_its_lease_is_over
            malformed_records_are_skipped_and_counted
            a_draining_node_is_seen_as_such
            who_leaves_is_gone_at_once
            contradicting_ring_settings_are_reported
            catching_up_gets_at_least_as_far_as_asked
            a_group_is_seen_by_others_and_stays_itself
            two_writers_of_a_group_are_told_apart
            a_groups_record_that_can_not_be_read_changes_nothing
        );)*
    };
}

contract!(
    with_etcd = crate::etcd::Etcd,
    with_memory = crate::memory::Memory,
    with_static = crate::fixed::Fixed
);

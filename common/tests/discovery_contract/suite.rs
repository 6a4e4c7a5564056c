//! The contract, once for all backends. With a fixed list some faults can't happen; what the
//! contract promises about the members is asserted all the same.

use common::{
    config::{GroupDefinition, Keys},
    discovery::{Discovery, GroupRecord, NodeState, RegistrationState, View, WantedRing},
    error::Code,
    key::GroupName,
};

use crate::backend::*;

pub(crate) async fn a_registration_is_seen_by_others<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    here.ready().await.unwrap();
    let a = node(A);
    let registration = here.register(a.clone());
    let revision = until_registered(&registration).await;
    let seen = until_view(&*there, |view| view.members.contains_key(&a.id)).await;
    assert!(seen.as_of >= revision);
    assert_eq!(seen.members[&a.id].grpc, A);
    assert_eq!(seen.generation, until_view(&*here, |_| true).await.generation);
    if !T::FIXED {
        assert_eq!(seen.members[&a.id], a);
    }
    assert!(until(there.status(), |status| status.connected).await.problem.is_none());
}

pub(crate) async fn a_later_handle_sees_what_was_and_what_comes<T: Backend>() {
    let backend = T::start(LONG).await;
    let here = backend.any_handle();
    let earlier = [A, B].map(|address| here.register(node(address)));
    for registration in &earlier {
        until_registered(registration).await;
    }
    let later = backend.any_handle();
    let seen = record_views(later.views());
    until_view(&*later, |view| ids(view).starts_with(&[A, B])).await;
    let third = here.register(node(C));
    until_registered(&third).await;
    until_view(&*later, |view| ids(view) == [A, B, C]).await;
    if !T::FIXED {
        earlier[0].leave().await.unwrap();
        until_view(&*later, |view| ids(view) == [B, C]).await;
    }
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by_key(|view| view.as_of), "{seen:#?}");
    assert!(seen.iter().all(|view| view.generation == seen[0].generation));
}

pub(crate) async fn a_lost_lease_is_replaced<T: Backend>() {
    let backend = T::start(SHORT).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let a = node(A);
    let registration = here.register(a.clone());
    let mut revision = until_registered(&registration).await;
    for _ in 0..2 {
        backend.end_lease(&a.id).await;
        if !T::FIXED {
            revision = until_registered_after(&registration, Some(revision)).await;
        }
        let seen = until_view(&*there, |view| view.as_of >= revision).await;
        assert!(seen.members.contains_key(&a.id), "{seen:#?}");
    }
}

pub(crate) async fn a_deleted_record_comes_back<T: Backend>() {
    // The lease lives on, so renewals alone would never tell.
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let a = node(A);
    let registration = here.register(a.clone());
    let mut revision = until_registered(&registration).await;
    for _ in 0..2 {
        backend.delete_record(&a.id).await;
        if !T::FIXED {
            revision = until_registered_after(&registration, Some(revision)).await;
        }
        let seen = until_view(&*there, |view| view.as_of >= revision).await;
        assert!(seen.members.contains_key(&a.id), "{seen:#?}");
    }
}

pub(crate) async fn a_live_twin_keeps_the_id_until_it_is_dead<T: Backend>() {
    let backend = T::start(SHORT).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    // In a fixed list an id is an address, so its twin can only be at the same one.
    let (first, second) = (node(A), node_at(A, if T::FIXED { A } else { ELSEWHERE }));
    let old = here.register(first.clone());
    until_registered(&old).await;
    backend.answering().at(&first);

    let new = there.register(second.clone());
    let held = RegistrationState::HeldByOther { instance: first.instance, address: A.into() };
    until(new.state(), |state| *state == held).await;
    let view = until_view(&*there, |view| view.members.contains_key(&first.id)).await;
    assert_eq!(view.members[&first.id].grpc, A);

    backend.answering().nobody_at(&first);
    backend.answering().at(&second);
    until_registered(&new).await;
    if !T::FIXED {
        until_seen(&*here, &second).await;
        let address = second.grpc.clone();
        let held = RegistrationState::HeldByOther { instance: second.instance, address };
        until(old.state(), |state| *state == held).await;
    }
}

pub(crate) async fn a_dead_twin_is_replaced_at_once<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let (first, second) = (node(A), node_at(A, if T::FIXED { A } else { ELSEWHERE }));
    let old = here.register(first.clone());
    until_registered(&old).await;
    drop(old);
    // The deadline of `until` is far shorter than the lease.
    let new = there.register(second.clone());
    until_registered(&new).await;
    if !T::FIXED {
        until_seen(&*here, &second).await;
    }
}

pub(crate) async fn a_restart_at_the_same_address_takes_over_at_once<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let (first, second) = (node(A), node(A));
    let old = here.register(first.clone());
    until_registered(&old).await;
    drop(old);
    // Who holds the port need not ask who does; a fixed list has nothing else to go by.
    backend.answering().at(if T::FIXED { &second } else { &first });
    let new = there.register(second.clone());
    until_registered(&new).await;
    if !T::FIXED {
        until_seen(&*here, &second).await;
    }
}

pub(crate) async fn a_crashed_node_stays_until_its_lease_is_over<T: Backend>() {
    let backend = T::start(SHORT).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let alive = here.register(node(B));
    let since = until_registered(&alive).await;
    let a = node(A);
    let registration = here.register(a.clone());
    let revision = until_registered(&registration).await;
    drop(registration);
    let seen = there.catch_up(revision).await;
    let seen = match seen {
        Ok(view) => view,
        Err(_) => until_view(&*there, |view| view.as_of >= revision).await,
    };
    assert!(seen.members.contains_key(&a.id));
    if !T::FIXED {
        until_view(&*there, |view| ids(view) == [B]).await;
    }
    // Its own lease was kept all the while, so it never had to come back.
    assert_eq!(until_registered(&alive).await, since);
}

pub(crate) async fn malformed_records_are_skipped_and_counted<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let registration = here.register(node(A));
    until_registered(&registration).await;
    let other = String::from_utf8(node(B).to_json().unwrap()).unwrap();
    let padding = " ".repeat(20_000);
    backend.put_raw("not-json", b"{\xff").await;
    backend.put_raw("another-id", other.as_bytes()).await;
    backend.put_raw(B, format!("{other}{padding}").as_bytes()).await;
    let expected = if T::FIXED { T::MALFORMED } else { 3 };
    let later = backend.any_handle();
    for handle in [&there, &later] {
        until(handle.status(), |status| status.skipped_records == expected).await;
        let seen = until_view(&**handle, |view| ids(view).contains(&A)).await;
        assert_eq!(ids(&seen), if T::FIXED { vec![A, B, C] } else { vec![A] });
    }
    let registration = here.register(node(C));
    until_registered(&registration).await;
    until_view(&*there, |view| ids(view).contains(&C)).await;
    assert_eq!(there.status().borrow().skipped_records, expected);
}

pub(crate) async fn a_draining_node_is_seen_as_such<T: Backend>() {
    let backend = T::start(SHORT).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let a = node(A);
    let registration = here.register(a.clone());
    let revision = until_registered(&registration).await;
    registration.set_state(NodeState::Draining).await.unwrap();
    if T::FIXED {
        return assert!(until_view(&*there, |_| true).await.members.contains_key(&a.id));
    }
    let draining =
        |view: &View| view.members.get(&a.id).is_some_and(|a| a.state == NodeState::Draining);
    until_view(&*there, draining).await;
    // What was ordered outlives the lease.
    let revision = until_registered_after(&registration, Some(revision)).await;
    backend.end_lease(&a.id).await;
    let revision = until_registered_after(&registration, Some(revision)).await;
    let seen = until_view(&*there, |view| view.as_of >= revision).await;
    assert!(draining(&seen), "{seen:#?}");
}

pub(crate) async fn who_leaves_is_gone_at_once<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    let a = node(A);
    let registration = here.register(a.clone());
    until_registered(&registration).await;
    until_view(&*there, |view| view.members.contains_key(&a.id)).await;
    registration.leave().await.unwrap();
    assert_eq!(*registration.state().borrow(), RegistrationState::Left);
    registration.leave().await.unwrap();
    let refused = registration.set_state(NodeState::Draining).await.unwrap_err();
    assert_eq!(refused.code(), Code::PreconditionFailed);
    if T::FIXED {
        assert!(until_view(&*there, |_| true).await.members.contains_key(&a.id));
    } else {
        until_view(&*there, |view| view.members.is_empty()).await;
    }
}

pub(crate) async fn contradicting_ring_settings_are_reported<T: Backend>() {
    let backend = T::start(LONG).await;
    let wanted = |virtual_nodes, seed: Option<&str>| WantedRing {
        virtual_nodes,
        seed: seed.map(String::from),
    };
    let first = backend.handle(&wanted(Some(50), Some("hush")));
    first.ready().await.unwrap();
    let ring = until_view(&*first, |_| true).await.ring.clone();
    assert_eq!((ring.virtual_nodes, ring.seed.as_str()), (50, "hush"));
    if T::FIXED {
        return; // nobody else's settings are known
    }
    for agreeing in [wanted(None, None), wanted(Some(50), None), wanted(None, Some("hush"))] {
        let handle = backend.handle(&agreeing);
        handle.ready().await.unwrap();
        assert_eq!(until_view(&*handle, |_| true).await.ring, ring);
    }
    let other = backend.handle(&wanted(Some(60), Some("loud")));
    let refused = tokio::time::timeout(DEADLINE, other.ready()).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::InvalidRequest);
    let words = refused.message();
    assert!(words.contains("virtual_nodes is 60 here but 50"), "{words}");
    assert!(words.contains("seed is not") && !words.contains("hush"), "{words}");

    // Who would route by another ring is no member, not even until its process has ended.
    let registration = other.register(node(A));
    let settled =
        until(registration.state(), |s| *s != RegistrationState::Trying { problem: None }).await;
    let RegistrationState::Trying { problem: Some(problem) } = settled else {
        panic!("{settled:?}");
    };
    assert_eq!(problem, words);
    let never = first.catch_up(0).await.unwrap();
    assert!(never.members.is_empty(), "{never:#?}");
}

pub(crate) async fn catching_up_gets_at_least_as_far_as_asked<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    there.ready().await.unwrap();
    until(there.status(), |status| status.connected).await;
    for address in [A, B, C] {
        let registration = here.register(node(address));
        let revision = until_registered(&registration).await;
        let view = there.catch_up(revision).await.unwrap();
        assert!(view.as_of >= revision && ids(&view).contains(&address), "{view:#?}");
        assert!(there.views().borrow().as_ref().unwrap().as_of >= revision);
    }
    let refused = there.catch_up(1 << 40).await.unwrap_err();
    assert_eq!(refused.code(), Code::NodeUnavailable);
}

fn users() -> GroupName {
    GroupName::new("users").unwrap()
}

/// A group whose entries live for so many seconds.
fn group(seconds: u64) -> GroupRecord {
    let keys = Keys::from_iter([("ttl".to_owned(), format!("{seconds}s").into())]);
    GroupRecord::new(GroupDefinition::read(&users(), &keys, "test").unwrap())
}

/// Writes a group's record. `None`: this backend has no place for it, and says so.
async fn write<T: Backend>(
    handle: &dyn Discovery,
    record: &GroupRecord,
    seen: u64,
) -> Option<Option<u64>> {
    let written = handle.write_group(&users(), record, seen).await;
    if T::FIXED {
        assert_eq!(written.unwrap_err().code(), Code::Unsupported);
        return None;
    }
    Some(written.unwrap())
}

pub(crate) async fn a_group_is_seen_by_others_and_stays_itself<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    here.ready().await.unwrap();
    let made = group(5);
    let Some(written) = write::<T>(&*here, &made, 0).await else { return };
    let revision = written.expect("there was none");
    let has = |view: &View, wanted: &GroupRecord| {
        view.groups.get("users").is_some_and(|group| **group == *wanted)
    };
    let made = GroupRecord { revision, ..made };
    let seen = until_view(&*there, |view| has(view, &made)).await;
    assert!(seen.as_of >= revision);

    let changed = GroupRecord { id: made.id, ..group(7) };
    let later = write::<T>(&*there, &changed, revision).await.flatten().expect("as it was seen");
    let changed = GroupRecord { revision: later, ..changed };
    let deleted = GroupRecord { definition: None, ..changed.clone() };
    for handle in [&here, &there, &backend.any_handle()] {
        until_view(&**handle, |view| has(view, &changed)).await;
        assert!(has(&handle.catch_up(later).await.unwrap(), &changed));
    }
    let gone = write::<T>(&*here, &deleted, later).await.flatten().expect("as it was seen");
    let deleted = GroupRecord { revision: gone, ..deleted };
    until_view(&*there, |view| has(view, &deleted)).await;
    until_view(&*backend.any_handle(), |view| has(view, &deleted)).await;
}

pub(crate) async fn two_writers_of_a_group_are_told_apart<T: Backend>() {
    let backend = T::start(LONG).await;
    let (here, there) = (backend.any_handle(), backend.any_handle());
    here.ready().await.unwrap();
    let Some(first) = write::<T>(&*here, &group(5), 0).await else { return };
    assert_eq!(write::<T>(&*there, &group(6), 0).await, Some(None), "there is one by now");
    let first = first.unwrap();
    let second = write::<T>(&*there, &group(6), first).await.flatten().unwrap();
    assert!(second > first);
    assert_eq!(write::<T>(&*here, &group(7), first).await, Some(None));
}

pub(crate) async fn a_groups_record_that_can_not_be_read_changes_nothing<T: Backend>() {
    if T::FIXED {
        return;
    }
    let backend = T::start(LONG).await;
    let here = backend.any_handle();
    here.ready().await.unwrap();
    let made = group(5);
    write::<T>(&*here, &made, 0).await;
    until_view(&*here, |view| view.groups.contains_key("users")).await;
    let skipped = here.status().borrow().skipped_records;
    for name in ["users", "other"] {
        backend.put_raw_group(name, br#"{"v":1,"id":"?"}"#).await;
    }
    until(here.status(), |status| status.skipped_records >= skipped + 2).await;
    let view = here.catch_up(0).await.unwrap();
    assert_eq!(view.groups["users"].id, made.id);
    assert!(!view.groups.contains_key("other"));
}

//! Renewals that say one thing while the lease does another: what a node may believe of them.

use common::discovery::RegistrationState;

use crate::{
    backend::*,
    fake_etcd::{FakeEtcd, Renewals, Watches},
};

fn is_late(state: &RegistrationState) -> bool {
    let RegistrationState::Trying { problem: Some(problem) } = state else { return false };
    problem.contains("not answered in time")
}

#[tokio::test]
async fn renewals_granted_for_a_lease_that_is_gone_deceive_nobody() {
    let fake = FakeEtcd::start().await;
    let (handle, a) = (fake.handle(LONG), node(A));
    let registration = handle.register(a.clone());
    let revision = until_registered(&registration).await;
    until_seen(&*handle, &a).await;
    fake.faults().renewals = Renewals::Granted;
    fake.end_lease(A);
    let again = until_registered_after(&registration, Some(revision)).await;
    until_view(&*handle, |view| view.as_of >= again && ids(view) == [A]).await;
}

#[tokio::test]
async fn a_renewal_is_done_when_it_is_answered_not_when_it_is_asked_for() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    let registration = handle.register(node(A));
    until_registered(&registration).await;
    eventually("renewals are asked for", || fake.renewals(A) > 0).await;
    fake.faults().renewals = Renewals::Unanswered;
    until(registration.state(), is_late).await;
    let asked = fake.renewals(A);
    fake.faults().renewals = Renewals::Honest;
    until_registered(&registration).await;
    eventually("renewals are asked for again", || fake.renewals(A) > asked).await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_none() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    let registration = handle.register(node(A));
    until_registered(&registration).await;
    eventually("the lease is renewed", || fake.renewals(A) > 1).await;
    fake.faults().renewals = Renewals::Late(SHORT / 2);
    until(registration.state(), is_late).await;
    fake.faults().renewals = Renewals::Honest;
    until_registered(&registration).await;
}

#[tokio::test]
async fn a_renewal_of_nothing_is_heard_without_a_watch() {
    let fake = FakeEtcd::start().await;
    let handle = fake.handle(LONG);
    let registration = handle.register(node(A));
    let revision = until_registered(&registration).await;
    // The second question shows that the first was answered.
    eventually("the lease is renewed", || fake.renewals(A) > 1).await;
    fake.faults().watches = Watches::Silent;
    fake.end_lease(A);
    until_registered_after(&registration, Some(revision)).await;
}

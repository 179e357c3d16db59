//! What the ledger promises of an approval.

use std::sync::Arc;

use loopgate::adapters::ledger::Ledger;
use loopgate::domain::approval::Ground;
use loopgate::domain::approval::State;
use loopgate::domain::approval::Ticket;
use loopgate::domain::approval::Verdict;
use loopgate::domain::approval::VoteFault;
use loopgate::pep::ports::Approvals as _;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::TicketFilter;

use crate::harness::LONG;
use crate::harness::Store;
use crate::harness::approved;
use crate::harness::ballot;
use crate::harness::mine;
use crate::harness::person;
use crate::harness::promises;
use crate::harness::race;
use crate::harness::ticket;
use crate::harness::ticket_with;
use crate::harness::under;

promises! {
    asking_the_same_at_once_makes_one_ticket
    asking_again_finds_what_is_pending_or_unused_and_nothing_else
    a_vote_counts_once_and_only_for_what_was_shown
    of_racing_voters_each_counts_once_and_nobody_after_the_decision
    a_ticket_is_taken_back_until_it_is_used
    time_that_has_run_out_is_told_of_once
    a_list_of_tickets_is_newest_first_and_of_one_organisation
}

/// A ticket that asks for something of its own.
fn another(id: &str, change: impl FnOnce(&mut Ticket)) -> Ticket {
    ticket_with(id, |ticket| {
        ticket.subject.preview = serde_json::json!(id);
        change(ticket);
    })
}

async fn all(ledger: &Ledger) -> Vec<Ticket> {
    ledger.tickets(&TicketFilter { limit: 1000, ..TicketFilter::default() }).await.unwrap()
}

async fn asking_the_same_at_once_makes_one_ticket(store: &Store) {
    let ledger = store.open();
    let asked = race(32, |at| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.ask(&ticket(&format!("apr_{at}"))).await.unwrap() }
    })
    .await;
    assert!(asked.iter().all(|one| *one == asked[0]), "{asked:?}");
    assert_eq!(all(&ledger).await, asked[..1]);
}

async fn asking_again_finds_what_is_pending_or_unused_and_nothing_else(store: &Store) {
    let ledger = store.open();
    let first = approved(&ledger, "apr_1").await;
    assert_eq!(ledger.ask(&ticket("apr_2")).await.unwrap(), first, "approved, and not used");
    let other = ledger.ask(&ticket_with("apr_3", |ticket| ticket.subject.tenant = "org_nordbank".into())).await;
    assert_eq!(other.unwrap().id, "apr_3", "of another organisation");
    mine(&ledger, &under("k", "apr_1"), LONG).await;
    assert_eq!(ledger.ask(&ticket("apr_4")).await.unwrap().id, "apr_4", "the first is in use");
    assert!(ledger.release("exec-k", 1).await.unwrap());
    assert_eq!(ledger.ask(&ticket("apr_5")).await.unwrap().id, "apr_4");
    ledger.take_back("apr_4", &person("ada"), Ground::Cancelled, "").await.unwrap().unwrap();
    assert_eq!(ledger.ask(&ticket("apr_6")).await.unwrap().id, "apr_6", "the one before was taken back");
    let lapsed = another("apr_7", |ticket| ticket.subject.approve_by_ms = 1);
    assert_eq!(ledger.ask(&lapsed).await.unwrap().id, "apr_7");
    let again = ticket_with("apr_8", |ticket| ticket.subject.preview = lapsed.subject.preview.clone());
    assert_eq!(ledger.ask(&again).await.unwrap().id, "apr_8", "nobody can answer the one before any more");
    assert_eq!(ledger.ask(&ticket("apr_6")).await.unwrap().id, "apr_6", "the same ticket again is no other");
    // The one given back may still be used, though a later one asks the same.
    mine(&ledger, &under("k", "apr_1"), LONG).await;
}

async fn a_vote_counts_once_and_only_for_what_was_shown(store: &Store) {
    let ledger = store.open();
    let asked = ledger.ask(&ticket("apr_1")).await.unwrap();
    let vote = async |one| ledger.vote("apr_1", &one).await.unwrap();
    let yes = |user: &str| ballot(&asked, user, Verdict::Approve);
    assert_eq!(ledger.vote("apr_none", &yes("eve")).await.unwrap(), Err(VoteFault::Unknown));
    assert_eq!(vote(yes("ada")).await, Err(VoteFault::Own));
    let mut stranger = yes("eve");
    stranger.roles.clear();
    assert_eq!(vote(stranger).await, Err(VoteFault::Standing));
    let mut unseen = yes("eve");
    unseen.digest = "0".repeat(64);
    assert_eq!(vote(unseen).await, Err(VoteFault::Digest));
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap(), asked, "none of them left a trace");
    let once = vote(yes("eve")).await.unwrap();
    assert_eq!((once.state, once.agreed()), (State::Pending, 1));
    assert!(once.ballots[0].at_ms >= asked.asked_ms, "by the ledger's clock, not the voter's");
    assert_eq!(vote(yes("eve")).await, Err(VoteFault::Twice));
    let twice = vote(yes("fay")).await.unwrap();
    assert_eq!((twice.state, twice.execute_by_ms), (State::Approved, Some(twice.ballots[1].at_ms + 3_600_000)));
    assert_eq!(vote(ballot(&asked, "gil", Verdict::Reject)).await, Err(VoteFault::Closed));
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap(), twice);
    let late = ledger.ask(&another("apr_2", |ticket| ticket.subject.approve_by_ms = 1)).await.unwrap();
    let closed = ledger.vote("apr_2", &ballot(&late, "eve", Verdict::Approve)).await.unwrap();
    assert_eq!(closed, Err(VoteFault::Closed), "its time has passed, though nobody wrote it down");
}

async fn of_racing_voters_each_counts_once_and_nobody_after_the_decision(store: &Store) {
    let ledger = store.open();
    let asked = ledger.ask(&ticket("apr_1")).await.unwrap();
    let votes = race(32, |at| {
        let (ledger, one) = (Arc::clone(&ledger), ballot(&asked, &format!("voter{}", at % 16), Verdict::Approve));
        async move { ledger.vote("apr_1", &one).await.unwrap() }
    })
    .await;
    assert_eq!(votes.iter().filter(|vote| vote.is_ok()).count(), 2, "{votes:?}");
    let stored = ledger.ticket("apr_1").await.unwrap().unwrap();
    assert_eq!((stored.state, stored.ballots.len()), (State::Approved, 2));
    assert_ne!(stored.ballots[0].voter, stored.ballots[1].voter);
}

async fn a_ticket_is_taken_back_until_it_is_used(store: &Store) {
    let ledger = store.open();
    let take_back = async |id: &str| ledger.take_back(id, &person("eve"), Ground::Revoked, "changed").await.unwrap();
    assert_eq!(take_back("apr_none").await, Err(VoteFault::Unknown));
    approved(&ledger, "apr_1").await;
    let back = take_back("apr_1").await.unwrap();
    let ended = back.ended.as_ref().unwrap();
    assert_eq!((back.state, ended.ground, &*ended.reason), (State::Rejected, Ground::Revoked, "changed"));
    assert_eq!(ledger.ticket("apr_1").await.unwrap().unwrap(), back);
    assert_eq!(take_back("apr_1").await, Err(VoteFault::Closed));
    approved(&ledger, "apr_2").await;
    mine(&ledger, &under("k", "apr_2"), LONG).await;
    assert_eq!(take_back("apr_2").await, Err(VoteFault::Spent));
}

async fn time_that_has_run_out_is_told_of_once(store: &Store) {
    let ledger = store.open();
    for at in 0..20 {
        let late = another(&format!("apr_{at}"), |ticket| ticket.subject.approve_by_ms = 1 + at);
        ledger.ask(&late).await.unwrap();
    }
    let open = ledger.ask(&ticket("apr_open")).await.unwrap();
    // Looking at a lapsed ticket, voting on it or asking the same again writes nothing down.
    let seen = ledger.ticket("apr_0").await.unwrap().unwrap();
    assert_eq!(seen.state, State::Pending);
    ledger.vote("apr_0", &ballot(&seen, "eve", Verdict::Approve)).await.unwrap().unwrap_err();
    let told = race(8, |_| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.expire(3).await.unwrap() }
    })
    .await;
    assert!(told.iter().all(|some| some.len() <= 3));
    let mut told: Vec<Ticket> = told.into_iter().flatten().collect();
    told.extend(ledger.expire(100).await.unwrap());
    let mut ids: Vec<&str> = told.iter().map(|one| &*one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((told.len(), ids.len()), (20, 20), "each once");
    assert!(told.iter().all(|one| one.ended.as_ref().is_some_and(|ended| ended.ground == Ground::Expired)));
    assert_eq!(ledger.expire(100).await.unwrap(), []);
    for one in told {
        assert_eq!(ledger.ticket(&one.id).await.unwrap().unwrap(), one);
    }
    assert_eq!(ledger.ticket("apr_open").await.unwrap().unwrap(), open);
}

async fn a_list_of_tickets_is_newest_first_and_of_one_organisation(store: &Store) {
    let ledger = store.open();
    for at in 0..6 {
        let asked = another(&format!("apr_{at}"), |ticket| {
            ticket.asked_ms = 100 + at;
            ticket.subject.requester.user = format!("user{at}");
            ticket.subject.tenant = if at < 4 { "org_gcn" } else { "org_nordbank" }.into();
        });
        ledger.ask(&asked).await.unwrap();
    }
    let wanted = TicketFilter { limit: 10, ..TicketFilter::default() };
    let ids = async |filter: TicketFilter| {
        ledger.tickets(&filter).await.unwrap().into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(wanted.clone()).await, ["apr_5", "apr_4", "apr_3", "apr_2", "apr_1", "apr_0"]);
    let gcn = TicketFilter { tenant: Some("org_gcn".to_owned()), ..wanted.clone() };
    assert_eq!(ids(gcn.clone()).await, ["apr_3", "apr_2", "apr_1", "apr_0"]);
    assert_eq!(ids(TicketFilter { before_ms: Some(102), ..gcn.clone() }).await, ["apr_1", "apr_0"]);
    assert_eq!(ids(TicketFilter { limit: 1, ..gcn.clone() }).await, ["apr_3"]);
    assert_eq!(ids(TicketFilter { requester: Some("user2".to_owned()), ..gcn.clone() }).await, ["apr_2"]);
    assert_eq!(ids(TicketFilter { requester: Some("user5".to_owned()), ..gcn.clone() }).await, [""; 0]);
    assert_eq!(ids(TicketFilter { state: Some(State::Approved), ..gcn }).await, [""; 0]);
}

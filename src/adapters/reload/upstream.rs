//! What upstream servers offer, joined to the catalog that is put in force.
//!
//! Promises: what is accepted at first sight is written down before it can be called; a definition
//! that changed is out of the catalog, recorded, and said in the log; a file of accepted definitions
//! that cannot be read or written keeps its server out and no other. What a server offers is written
//! beside that file, so that commands can show it. Never speaks to a server. Called by `reload`.

pub mod books;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;
use tracing::error;
use tracing::warn;

use self::books::Books;
use super::steward::Tools;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::text::plain;
use crate::domain::catalog::upstream::Joined;
use crate::domain::catalog::upstream::Seen;
use crate::domain::catalog::upstream::Standing;
use crate::domain::catalog::upstream::Terms;
use crate::domain::upstream::Offer;
use crate::domain::upstream::pins::Pins;
use crate::pep::ports::Upstreams;

/// Definitions that one record names.
const NAMED_MAX: usize = 50;

/// Every upstream server, and what was told of it.
pub struct Neighbours {
    upstreams: Arc<dyn Upstreams>,
    changes: watch::Receiver<u64>,
    members: Vec<(Terms, Books)>,
    told: Mutex<BTreeMap<String, Vec<Seen>>>,
}

impl Neighbours {
    /// These servers, each with the file of its accepted definitions.
    #[must_use]
    pub fn new(upstreams: Arc<dyn Upstreams>, members: Vec<(Terms, PathBuf)>) -> Self {
        let changes = upstreams.changes();
        let members = members.into_iter().map(|(terms, accepted)| (terms, Books::at(accepted))).collect();
        Self { upstreams, changes, members, told: Mutex::default() }
    }

    /// Whether somebody offers something else than at the last look.
    pub(super) fn have_changed(&mut self) -> bool {
        let changed = self.changes.has_changed().unwrap_or(false);
        if changed {
            self.changes.mark_unchanged();
        }
        changed
    }

    /// The files that are looked at for changes.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(|(_, books)| books.accepted.as_path())
    }

    /// The catalog with what is accepted of what is offered.
    pub(super) async fn join(&self, catalog: Catalog, tools: &Tools) -> Catalog {
        let offers = self.upstreams.offers();
        let (terms, mut pins) = self.at_hand(&offers);
        let first = catalog.clone().join(&offers, &terms, &pins);
        let kept: Vec<Terms> = terms.into_iter().filter(|terms| self.keep(terms, &offers, &first, &mut pins)).collect();
        // WHY again: only what is written down is in the catalog.
        let joined = catalog.join(&offers, &kept, &pins);
        self.tell(&first, tools).await;
        joined.catalog
    }

    /// The servers whose files can be read, and what they say.
    fn at_hand(&self, offers: &BTreeMap<String, Arc<Offer>>) -> (Vec<Terms>, BTreeMap<String, Pins>) {
        let (mut terms, mut pins) = (Vec::new(), BTreeMap::new());
        for (of_server, books) in &self.members {
            if let Some(offer) = offers.get(&of_server.server)
                && let Err(fault) = books.note(offer)
            {
                warn!("what upstream `{}` offers cannot be written down: {fault}", of_server.server);
            }
            match books.read(&of_server.server) {
                Ok(found) => {
                    pins.insert(of_server.server.clone(), found);
                    terms.push(of_server.clone());
                }
                Err(fault) => error!("upstream `{}` is left out: {fault}", of_server.server),
            }
        }
        (terms, pins)
    }

    /// Writes down what was met; false if that cannot be done.
    fn keep(
        &self,
        terms: &Terms,
        offers: &BTreeMap<String, Arc<Offer>>,
        joined: &Joined,
        pins: &mut BTreeMap<String, Pins>,
    ) -> bool {
        let server = &terms.server;
        let met = joined.seen.iter().filter(|seen| seen.server == *server && seen.standing == Standing::Met);
        let (Some(offer), Some(pins)) = (offers.get(server), pins.get_mut(server)) else { return true };
        let mut any = false;
        for seen in met {
            any |= offer.definition(seen.kind, &seen.name).is_some_and(|one| pins.accept(seen.kind, &seen.name, one));
        }
        let books = self.members.iter().find(|(of, _)| of.server == *server).map(|(_, books)| books);
        match books.filter(|_| any).map(|books| books.write(pins)) {
            None | Some(Ok(())) => true,
            Some(Err(fault)) => {
                error!("upstream `{server}` is left out: what was seen for the first time cannot be kept: {fault}");
                false
            }
        }
    }

    /// Tells of every server whose definitions do not stand as they stood.
    async fn tell(&self, joined: &Joined, tools: &Tools) {
        let mut by_server: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
        for seen in &joined.seen {
            by_server.entry(&seen.server).or_default().push(seen.clone());
        }
        for (server, seen) in by_server {
            let before = {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                told.insert(server.to_owned(), seen.clone())
            };
            let news = news(before.as_deref(), &seen);
            if news.is_empty() {
                continue;
            }
            let out =
                seen.iter().filter(|one| matches!(one.standing, Standing::Changed { .. } | Standing::Awaits)).count();
            if out > 0 {
                warn!("upstream `{server}`: {out} definitions wait to be accepted: loopgate catalog upstream list");
            }
            let named: Vec<Value> = news.iter().take(NAMED_MAX).map(|seen| shown(seen)).collect();
            let says = "what an upstream server offers is not what it was";
            let record = Record::event(Stage::Config("upstream"), tools.clock.now_ms(), says)
                .with("server", server)
                .with("definitions", named)
                .with("changed", news.len() as u64)
                .with("waiting", out as u64);
            if let Err(fault) = tools.journal.append(record).await {
                error!("what upstream `{server}` offers cannot be recorded: {fault}");
            }
        }
    }
}

/// What is worth telling: all that is not plainly accepted when a server is seen first, then what changed.
fn news<'s>(before: Option<&[Seen]>, now: &'s [Seen]) -> Vec<&'s Seen> {
    let same = |seen: &Seen| match before {
        None => seen.standing == Standing::Accepted,
        Some(before) => before.iter().any(|old| {
            let of_it = old.kind == seen.kind && old.name == seen.name && old.digest == seen.digest;
            let stays =
                old.standing == seen.standing || (old.standing == Standing::Met && seen.standing == Standing::Accepted);
            of_it && stays
        }),
    };
    now.iter().filter(|seen| !same(seen)).collect()
}

fn shown(seen: &Seen) -> Value {
    let mut shown = json!({
        "kind": seen.kind.as_str(),
        "tool": plain(&seen.name, 200),
        "digest": seen.digest,
        "standing": seen.standing.as_str(),
    });
    let more = match &seen.standing {
        Standing::Changed { was } => Some(("was", was.clone())),
        Standing::Unfit { why } => Some(("why", plain(why, 300))),
        Standing::Accepted | Standing::Met | Standing::Awaits | Standing::Hidden => None,
    };
    if let (Some((name, text)), Value::Object(members)) = (more, &mut shown) {
        members.insert(name.to_owned(), text.into());
    }
    shown
}

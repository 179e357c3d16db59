//! The members of a backend: found, chosen, left out while they fail.
//!
//! Promises: names are looked up again every few seconds, a list in a file is read every second; what
//! was found last stays while nothing is found; who fails its health checks is left out unless all
//! do, for then the checks are believed less than the backend; a member that is gone gets nothing new.
//! Asks name services and files only. Called by [`super::carry`] and [`super::health`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::Backend as Found;
use pingora_load_balancing::Backends as View;
use pingora_load_balancing::Extensions;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HealthCheck;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use super::breaker::Breaker;
use super::breaker::BreakerRules;
use super::place::At;
use super::place::Place;

/// How long what was found is used before it is looked for again.
const FOUND_FOR: Duration = Duration::from_secs(5);
/// And what a file lists.
const LISTED_FOR: Duration = Duration::from_secs(1);
/// And how long it is taken for granted that nobody is there.
const NOBODY_FOR: Duration = Duration::from_millis(500);
/// Members of one backend, at most.
const MEMBERS_MAX: usize = 256;

/// Who gets the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Everybody in turn.
    RoundRobin,
    /// The same member for the same organisation, as long as it is there.
    Tenant,
}

/// Where the members of a backend are to be found.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// As the settings say.
    pub places: Vec<Place>,
    /// A file with more of them, one URL to a line, read again when it changes.
    pub file: Option<PathBuf>,
    /// Reads a line of it.
    pub read: fn(&str) -> Option<Place>,
    /// Whether names may lead to private addresses.
    pub allow_private: bool,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) place: Place,
    breaker: Mutex<Breaker>,
    ailment: Mutex<Option<String>>,
    gone: AtomicBool,
}

impl Member {
    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its last health check found, if that failed.
    pub(super) fn ailment(&self) -> Option<String> {
        self.ailment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A health check was made.
    pub(super) fn examined(&self, found: Option<String>) {
        *self.ailment.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Whether it is still one; if not, its connections are not kept.
    pub(super) fn is_current(&self) -> bool {
        !self.gone.load(Ordering::Acquire)
    }
}

/// The member that was found; absent of what others put into a view, which nobody does.
pub(super) fn member(found: &Found) -> Option<&Arc<Member>> {
    found.ext.get::<Arc<Member>>()
}

/// The members of one backend.
pub(super) struct Members {
    view: View,
    balance: Balance,
    found_for: Duration,
    turn: AtomicUsize,
    faults: Arc<Mutex<Vec<String>>>,
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Members {
    pub(super) fn new(
        backend: &str,
        whereabouts: Whereabouts,
        balance: Balance,
        breaker: BreakerRules,
        within: Duration,
        check: Box<dyn HealthCheck + Send + Sync>,
    ) -> Self {
        let faults = Arc::new(Mutex::default());
        let found_for = if whereabouts.file.is_some() { LISTED_FOR } else { FOUND_FOR };
        let lookup = Lookup {
            backend: backend.to_owned(),
            whereabouts,
            within,
            breaker,
            known: Mutex::default(),
            faults: Arc::clone(&faults),
        };
        let mut view = View::new(Box::new(lookup));
        view.set_health_check(check);
        Self { view, balance, found_for, turn: AtomicUsize::new(0), faults, looked: tokio::sync::Mutex::default() }
    }

    /// Whether none was found yet.
    pub(super) fn is_empty(&self) -> bool {
        self.view.get_backend().is_empty()
    }

    /// Looks for members if it is time to, or always; gives those that are gone.
    pub(super) async fn look(&self, now: bool) -> Vec<Arc<Member>> {
        let mut looked = self.looked.lock().await;
        // WHY more often while there is nobody: calls wait for it.
        let found_for = if self.is_empty() { NOBODY_FOR } else { self.found_for };
        if !now && looked.is_some_and(|at| at.elapsed() < found_for) {
            return Vec::new();
        }
        let before = self.view.get_backend();
        // What went wrong is among `faults`, and what was found before stays.
        let _kept = self.view.update(|_| {}).await;
        *looked = Some(Instant::now());
        let after = self.view.get_backend();
        let gone: Vec<_> = before.difference(&after).filter_map(member).cloned().collect();
        for member in &gone {
            member.gone.store(true, Ordering::Release);
        }
        gone
    }

    /// Who may be asked, best first.
    pub(super) fn candidates(&self, tenant: &str) -> Vec<Arc<Member>> {
        let found = self.view.get_backend();
        let healthy: Vec<_> = found.iter().filter(|one| self.view.ready(one)).filter_map(member).cloned().collect();
        let mut all = if healthy.is_empty() { found.iter().filter_map(member).cloned().collect() } else { healthy };
        match self.balance {
            Balance::RoundRobin if !all.is_empty() => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len();
                all.rotate_left(turn);
            }
            Balance::RoundRobin => {}
            // WHY the weight of the pair: when one member goes, only its own organisations move.
            Balance::Tenant => all.sort_by_cached_key(|member| hash((tenant, member.address.to_string()))),
        }
        all
    }

    /// Every member, and whether its health checks pass.
    pub(super) fn all(&self) -> Vec<(Arc<Member>, bool)> {
        let found = self.view.get_backend();
        found.iter().filter_map(|one| Some((Arc::clone(member(one)?), self.view.ready(one)))).collect()
    }

    /// What went wrong at the last look.
    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks the health of all, once.
    pub(super) async fn check(&self) {
        self.view.run_health_check(true).await;
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Finds the members.
struct Lookup {
    backend: String,
    whereabouts: Whereabouts,
    within: Duration,
    breaker: BreakerRules,
    /// Members by address, and the addresses of each name as they were found last.
    known: Mutex<Known>,
    faults: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Known {
    members: BTreeMap<String, Arc<Member>>,
    names: BTreeMap<(String, u16), Vec<SocketAddr>>,
    listed: Vec<Place>,
}

#[async_trait]
impl ServiceDiscovery for Lookup {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Found>, HashMap<u64, bool>)> {
        let mut faults = Vec::new();
        let places = self.places(&mut faults).await;
        let mut found = BTreeMap::new();
        for place in places {
            let (addresses, fault) = self.addresses(&place).await;
            faults.extend(fault);
            for address in addresses {
                found.entry(address.to_string()).or_insert_with(|| (address, place.clone()));
            }
        }
        if found.len() > MEMBERS_MAX {
            faults.push(format!("{} members were found, {MEMBERS_MAX} are used", found.len()));
        }
        let members = self.remember(found);
        self.tell(faults);
        let found = members.into_iter().map(|member| {
            let mut ext = Extensions::new();
            let addr = member.address.clone();
            // WHY: pingora tells members apart by address and weight alone, and weighs none here.
            let weight = usize::try_from(hash(&member.place) >> 1).unwrap_or(1);
            ext.insert(member);
            Found { addr, weight, ext }
        });
        let found: BTreeSet<_> = found.collect();
        if found.is_empty() {
            return pingora::Error::e_explain(pingora::ErrorType::ConnectNoRoute, "no member was found");
        }
        Ok((found, HashMap::new()))
    }
}

impl Lookup {
    /// The places of the settings, and those of the file.
    async fn places(&self, faults: &mut Vec<String>) -> Vec<Place> {
        let mut places = self.whereabouts.places.clone();
        let Some(file) = &self.whereabouts.file else { return places };
        let listed = match tokio::fs::read_to_string(file).await {
            Ok(text) => listed(&text, self.whereabouts.read),
            Err(cause) => Err(cause.to_string()),
        };
        let mut known = self.known();
        match listed {
            Ok(listed) => known.listed = listed,
            Err(cause) => faults.push(format!("{}: {cause}; what it said before goes on", file.display())),
        }
        places.extend(known.listed.iter().cloned());
        places
    }

    /// Where a place is: named by the settings, or as a name service says. When that says nothing good, where
    /// it was before, and why.
    async fn addresses(&self, place: &Place) -> (Vec<SocketAddr>, Option<String>) {
        let (host, port) = match &place.at {
            At::Socket(path) => {
                return match std::os::unix::net::SocketAddr::from_pathname(path) {
                    Ok(address) => (vec![address.into()], None),
                    Err(cause) => (Vec::new(), Some(cause.to_string())),
                };
            }
            At::Host { port, .. } => (place.bare().unwrap_or_default(), *port),
        };
        if let Ok(literal) = host.parse::<IpAddr>() {
            return (vec![SocketAddr::Inet((literal, port).into())], None);
        }
        let key = (host.to_owned(), port);
        match self.resolve(place, host, port).await {
            Ok(found) => {
                self.known().names.insert(key, found.clone());
                (found, None)
            }
            Err(fault) => (self.known().names.get(&key).cloned().unwrap_or_default(), Some(fault)),
        }
    }

    /// The addresses of a name that may be connected to.
    async fn resolve(&self, place: &Place, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let looked_up = tokio::time::timeout(self.within, tokio::net::lookup_host((host, port))).await;
        let found: Vec<_> = match looked_up {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(cause)) => return Err(format!("`{host}`: {cause}")),
            Err(_) => return Err(format!("`{host}`: no address within {:?}", self.within)),
        };
        let may = |address: &std::net::SocketAddr| self.whereabouts.allow_private || place.may_be(address.ip());
        let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(may);
        match (good.is_empty(), bad.first()) {
            (false, _) => Ok(good.into_iter().map(SocketAddr::Inet).collect()),
            (true, None) => Err(format!("`{host}` has no address")),
            (true, Some(bad)) => Err(format!(
                "`{host}` leads to {}, which is private; name that address in the settings or set `allow_private: true`",
                bad.ip()
            )),
        }
    }

    /// The members of what was found, with what is known of those that were there before.
    fn remember(&self, found: BTreeMap<String, (SocketAddr, Place)>) -> Vec<Arc<Member>> {
        let mut known = self.known();
        let mut members = BTreeMap::new();
        for (key, (address, place)) in found.into_iter().take(MEMBERS_MAX) {
            let same = known.members.get(&key).filter(|member| member.place == place).cloned();
            let member = same.unwrap_or_else(|| {
                let breaker = Mutex::new(Breaker::new(self.breaker));
                Arc::new(Member { address, place, breaker, ailment: Mutex::default(), gone: AtomicBool::new(false) })
            });
            members.insert(key, member);
        }
        // WHY not when nobody was found: the view keeps who was there.
        if !members.is_empty() {
            known.members.clone_from(&members);
        }
        members.into_values().collect()
    }

    /// Says what went wrong, once.
    fn tell(&self, faults: Vec<String>) {
        let mut told = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == faults {
            return;
        }
        for fault in &faults {
            warn!("backend `{}`: {fault}", self.backend);
        }
        if faults.is_empty() {
            info!("backend `{}`: its members are found again", self.backend);
        }
        *told = faults;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places in a file: a URL to a line, `#` before what is for people.
fn listed(text: &str, read: fn(&str) -> Option<Place>) -> Result<Vec<Place>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| read(line).ok_or_else(|| format!("line {}: `{line}` is not a URL", at + 1))).collect()
}

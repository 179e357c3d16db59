//! One call carried to one backend: room, a member, the exchange, and perhaps another member.
//!
//! Promises: a write of which any byte may have left is not sent again, whatever happens; one that
//! provably left none may go to another member; a read may go to another member while there is budget
//! and time; every outcome is counted, and told to the breaker and the limit. Called by
//! [`super::Backends`].

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::protocols::l4::socket::SocketAddr;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use super::Target;
use super::breaker::Circuit;
use super::breaker::Pass;
use super::budget::Budget;
use super::exchange::Exchange;
use super::exchange::Failed;
use super::exchange::is_read;
use super::health::Doctor;
use super::members::Member;
use super::members::Members;
use super::pool::Pool;
use super::queue::Class;
use super::queue::Gate;
use super::queue::Gauges;
use super::queue::Place;
use super::tls::Certificates;
use super::tls::Trust;
use crate::domain::pdp::ruling::Permit;
use crate::metrics::Metrics;
use crate::pep::ports::Action;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// Members that one call is tried on, at most.
const TRIES_MAX: usize = 3;
/// The longest pause before a read is tried again, so that many do not come at once.
const PAUSE_MAX_MS: u64 = 30;

/// One backend with everything that stands before it.
pub(super) struct Service {
    pub(super) target: Target,
    pub(super) members: Members,
    pub(super) certificates: Arc<Certificates>,
    pool: Arc<Pool>,
    doctor: Doctor,
    gate: Arc<Gate>,
    budget: Mutex<Budget>,
    response_bytes: usize,
    metrics: Arc<Metrics>,
}

/// What one try came to.
struct Tried {
    result: Result<BackendAnswer, Failed>,
    bytes_left: bool,
}

impl Service {
    pub(super) fn new(target: Target, pool: usize, response_bytes: usize, metrics: &Arc<Metrics>) -> Self {
        let pool = Arc::new(Pool::new(pool, target.http2, target.connect, target.idle));
        let certificates = Arc::new(Certificates::open(target.tls.clone()));
        let doctor = || Doctor {
            backend: target.name.clone(),
            named: target.host.clone(),
            checks: target.checks.clone(),
            pool: Arc::clone(&pool),
            certificates: Arc::clone(&certificates),
        };
        let check = Box::new(doctor());
        let whereabouts = target.whereabouts.clone();
        let members = Members::new(&target.name, whereabouts, target.balance, target.breaker, target.connect, check);
        let of = [target.name.as_str()];
        let gauges = Gauges {
            limit: metrics.backend_limit.with_label_values(&of),
            under_way: metrics.backend_in_flight.with_label_values(&of),
            waiting: metrics.backend_queue.with_label_values(&of),
        };
        Self {
            members,
            doctor: doctor(),
            gate: Gate::new(target.concurrency, gauges),
            budget: Mutex::new(Budget::new(Instant::now())),
            response_bytes,
            metrics: Arc::clone(metrics),
            certificates,
            pool,
            target,
        }
    }

    pub(super) async fn send(&self, permit: &Permit<Action>, request: &Outbound) -> Result<BackendAnswer, SendFault> {
        let deadline = Instant::now() + request.timeout;
        let class = if permit.action().tool.writes() { Class::Write } else { Class::Read };
        let result = match self.enter(class, request).await {
            Ok(place) => self.carry(permit.action().tenant.as_str(), request, &place, deadline).await,
            Err(fault) => Err(fault),
        };
        let label = match &result {
            Ok(answer) => status_class(answer.status),
            Err(fault) => fault_label(fault.kind),
        };
        self.metrics.backend_requests.with_label_values(&[self.target.name.as_str(), label]).inc();
        result
    }

    /// Room for one more, or a refusal before anything is sent.
    async fn enter(&self, class: Class, request: &Outbound) -> Result<Place, SendFault> {
        let until_late = request.send_before.map(|latest| latest.saturating_duration_since(Instant::now()));
        let wait = self.gate.patience().min(request.timeout).min(until_late.unwrap_or(Duration::MAX));
        self.gate.enter(class, wait).await.map_err(|_turned_away| {
            self.metrics.backend_shed.with_label_values(&[self.target.name.as_str(), class.as_str()]).inc();
            let retry_ms = u64::try_from(self.gate.hint().as_millis()).unwrap_or(u64::MAX);
            let detail = format!("no room within {wait:?}");
            SendFault { kind: SendFaultKind::Overloaded { retry_ms }, bytes_left: false, detail }
        })
    }

    /// Tries members until one answers, or until trying another could do harm or is no use.
    async fn carry(
        &self,
        tenant: &str,
        request: &Outbound,
        place: &Place,
        deadline: Instant,
    ) -> Result<BackendAnswer, SendFault> {
        // Once somebody was found, looking goes on beside the calls.
        if self.members.is_empty() && tokio::time::timeout_at(deadline, self.look(false)).await.is_err() {
            return Err(Failed::Timeout("no address in time".to_owned()).into_fault(false));
        }
        let read = is_read(&request.method);
        if read {
            self.budget().read(Instant::now());
        }
        let candidates = self.members.candidates(tenant);
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut last: Option<Tried> = None;
        for _ in 0..TRIES_MAX {
            if let Some(before) = &last
                && !(is_another(&candidates, &tried) && self.may_go_on(before, read, deadline).await)
            {
                break;
            }
            let (member, pass) = match self.choose(&candidates, &tried, read) {
                Ok(chosen) => chosen,
                Err(fault) => return last.map_or(Err(fault), told),
            };
            tried.push(member.address.clone());
            let one = self.try_one(&member, request, deadline).await;
            self.learn(&member, pass, &one, place);
            if !goes_elsewhere(&one, read) {
                return told(one);
            }
            last = Some(one);
        }
        last.map_or_else(|| Err(Failed::Connect("no member".to_owned()).into_fault(false)), told)
    }

    /// A member that is let through, and was not tried yet.
    fn choose(
        &self,
        candidates: &[Arc<Member>],
        tried: &[SocketAddr],
        read: bool,
    ) -> Result<(Arc<Member>, Pass), SendFault> {
        let now = Instant::now();
        let mut wait: Option<Duration> = None;
        for member in candidates.iter().filter(|member| !tried.contains(&member.address)) {
            let admitted = member.breaker().admit(now, read);
            match admitted {
                Ok(pass) => return Ok((Arc::clone(member), pass)),
                Err(longer) => wait = Some(wait.map_or(longer, |wait| wait.min(longer))),
            }
        }
        let Some(wait) = wait else {
            let faults = self.members.faults();
            let detail = if faults.is_empty() { "no member is left".to_owned() } else { faults.join("; ") };
            return Err(Failed::Connect(detail).into_fault(false));
        };
        let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let detail = "every member failed too often of late".to_owned();
        Err(SendFault { kind: SendFaultKind::Resting { retry_ms }, bytes_left: false, detail })
    }

    /// Whether there is leave and time to try another member.
    async fn may_go_on(&self, before: &Tried, read: bool, deadline: Instant) -> bool {
        let count = |why: &str| self.metrics.backend_retries.with_label_values(&[self.target.name.as_str(), why]).inc();
        if read && !self.budget().take(Instant::now()) {
            count("denied");
            return false;
        }
        if before.bytes_left {
            let pause = Duration::from_millis(jitter_ms());
            if Instant::now() + pause >= deadline {
                return false;
            }
            tokio::time::sleep(pause).await;
        }
        count(if before.bytes_left { "failed" } else { "unsent" });
        true
    }

    /// One member. A read whose pooled connection turns out to be dead is tried once more on a fresh one.
    async fn try_one(&self, member: &Arc<Member>, request: &Outbound, deadline: Instant) -> Tried {
        let exchange = Exchange {
            pool: &self.pool,
            member,
            request,
            named: &self.target.host,
            response_bytes: self.response_bytes,
            bytes_left: AtomicBool::new(false),
        };
        let result = match self.pool.peer(member, &self.certificates.trust(), self.certificates.name()) {
            Err(cause) => Err(Failed::Unsent(cause)),
            Ok(peer) => {
                let work = async {
                    match exchange.run(&peer, false).await {
                        Err(Failed::Stale(_)) if is_read(&request.method) => {
                            self.metrics.backend_retries.with_label_values(&[self.target.name.as_str(), "stale"]).inc();
                            exchange.run(&peer, true).await
                        }
                        result => result,
                    }
                };
                tokio::time::timeout_at(deadline, work)
                    .await
                    .unwrap_or_else(|_| Err(Failed::Timeout(format!("no answer within {:?}", request.timeout))))
            }
        };
        Tried { result, bytes_left: exchange.bytes_left.load(Ordering::Acquire) }
    }

    /// Tells breaker and limit how it went.
    fn learn(&self, member: &Member, pass: Pass, one: &Tried, place: &Place) {
        let now = Instant::now();
        let trouble = match &one.result {
            Ok(answer) => matches!(answer.status, 502..=504),
            Err(failed) => failed.is_trouble(),
        };
        match &one.result {
            Ok(answer) if matches!(answer.status, 429 | 503 | 504) => place.lost(),
            Ok(_) => place.answered(),
            Err(Failed::Timeout(_)) => place.lost(),
            Err(_) => {}
        }
        if matches!(&one.result, Err(failed) if failed.says_nothing()) {
            return;
        }
        let count = |state: &str| {
            self.metrics.backend_breaker.with_label_values(&[self.target.name.as_str(), state]).inc();
        };
        if trouble && member.breaker().failed(pass, now) {
            count("opened");
            warn!("backend `{}`: {} failed too often and is left alone for a while", self.target.name, member.address);
        }
        if !trouble && member.breaker().succeeded(pass) {
            count("closed");
            info!("backend `{}`: {} answers again", self.target.name, member.address);
        }
    }

    /// Looks for members if it is time to, and closes the connections to those that are gone.
    pub(super) async fn look(&self, now: bool) {
        let gone = self.members.look(now).await;
        self.drain(&gone, &self.certificates.trust()).await;
    }

    /// Takes up changed certificates, and closes the connections made with those before.
    pub(super) async fn look_at_certificates(&self) {
        let Some(before) = self.certificates.look(&self.target.name) else { return };
        let all: Vec<_> = self.members.all().into_iter().map(|(member, _)| member).collect();
        self.drain(&all, &before).await;
    }

    async fn drain(&self, members: &[Arc<Member>], trust: &Trust) {
        for member in members {
            if let Ok(peer) = self.pool.peer(member, trust, self.certificates.name()) {
                self.pool.drain(&peer).await;
            }
            if !member.is_current() {
                info!("backend `{}`: {} is no longer a member", self.target.name, member.address);
            }
        }
    }

    /// Whether all members are well, or what is wrong with the first that is not.
    pub(super) async fn probe(&self) -> Result<(), String> {
        self.look(true).await;
        let faults: Vec<_> = self.members.faults().into_iter().chain(self.certificates.fault()).collect();
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        for (member, _) in self.members.all() {
            let asked =
                tokio::time::timeout(self.target.connect + self.target.checks.timeout, self.doctor.ask(&member));
            match asked.await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => return Err(format!("{}: {cause}", member.address)),
                Err(_) => return Err(format!("{}: no answer in time", member.address)),
            }
        }
        Ok(())
    }

    pub(super) fn count_members(&self) {
        let all = self.members.all();
        let healthy = all.iter().filter(|(_, healthy)| *healthy).count();
        let open = all.iter().filter(|(member, _)| member.breaker().circuit() != Circuit::Closed).count();
        for (state, many) in [("healthy", healthy), ("unhealthy", all.len() - healthy), ("open", open)] {
            let gauge = self.metrics.backend_members.with_label_values(&[self.target.name.as_str(), state]);
            gauge.set(i64::try_from(many).unwrap_or(i64::MAX));
        }
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_another(candidates: &[Arc<Member>], tried: &[SocketAddr]) -> bool {
    candidates.iter().any(|member| !tried.contains(&member.address))
}

/// Whether another member may do better, and harm is ruled out.
fn goes_elsewhere(one: &Tried, read: bool) -> bool {
    match &one.result {
        Ok(answer) => read && matches!(answer.status, 502 | 503),
        Err(Failed::Connect(_) | Failed::Refused(_)) => read || !one.bytes_left,
        Err(Failed::Stale(_) | Failed::Broken(_)) => read,
        Err(Failed::Unsent(_) | Failed::TooLarge(_) | Failed::Timeout(_)) => false,
    }
}

fn told(one: Tried) -> Result<BackendAnswer, SendFault> {
    one.result.map_err(|failed| failed.into_fault(one.bytes_left))
}

fn jitter_ms() -> u64 {
    let mut random = [0];
    // Without randomness there is no jitter, and nothing worse.
    let _filled = aws_lc_rs::rand::fill(&mut random);
    u64::from(random[0]) * PAUSE_MAX_MS / u64::from(u8::MAX)
}

const fn status_class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

const fn fault_label(kind: SendFaultKind) -> &'static str {
    match kind {
        SendFaultKind::Unreachable => "unreachable",
        SendFaultKind::Resting { .. } => "resting",
        SendFaultKind::Overloaded { .. } => "overloaded",
        SendFaultKind::Timeout => "timeout",
        SendFaultKind::Broken => "broken",
        SendFaultKind::TooLarge => "too_large",
    }
}

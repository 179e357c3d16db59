//! Every metric: its name, its labels, its help text.
//!
//! Promises: labels come from closed sets (codes, stages, configured names), so the number of
//! series is bounded; a refusal, a drop and a fallback each have a counter. Never carries a user,
//! a tenant, an argument or a path. Called by `pep` and the adapters; shown at `/metrics`.

use std::time::Duration;

use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::TextEncoder;

/// A step of the sentence, as the `stage` label, the tracing spans and the audit fields name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes to a message.
    Receive,
    /// Credential to principal.
    Authenticate,
    /// Principal to tenant.
    ResolveTenant,
    /// Policy.
    Decide,
    /// The preview, and the question to people or the look at their answer.
    Approve,
    /// What the ledger remembers of the write, and its claim.
    Remember,
    /// The intent of a write made durable.
    Intent,
    /// The backend's part.
    Forward,
    /// The answer looked at.
    Inspect,
    /// What became of a write made durable.
    Settle,
    /// The record made durable.
    Audit,
}

impl Stage {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Authenticate => "authenticate",
            Self::ResolveTenant => "resolve_tenant",
            Self::Decide => "decide",
            Self::Approve => "approve",
            Self::Remember => "remember",
            Self::Intent => "intent",
            Self::Forward => "forward",
            Self::Inspect => "inspect",
            Self::Settle => "settle",
            Self::Audit => "audit",
        }
    }
}

/// Every metric of the gateway.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by method and code (`ok`, a refusal code, or `protocol_error`).
    pub requests: IntCounterVec,
    /// Time per stage.
    pub stages: HistogramVec,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// What people did at the operators' door, by operation and code (`ok`, or why not).
    pub operators: IntCounterVec,
    /// Credentials refused, by cause.
    pub credentials_refused: IntCounterVec,
    /// Refusals for which HTTP alone was reason enough, by cause.
    pub door_refused: IntCounterVec,
    /// When a listener's certificate ends, seconds since the Unix epoch.
    pub certificate_expires: IntGaugeVec,
    /// 1 while a listener's changed certificate files are refused and the last good ones stay.
    pub certificate_stale: IntGaugeVec,
    /// Refusals of callers nobody knows, and of too many messages, counted instead of recorded one by one.
    pub records_aggregated: IntCounter,
    /// Writes whose lost outcome the gateway found out.
    pub reconciled: IntCounter,
    /// Faults of policy evaluation, by code.
    pub policy_faults: IntCounterVec,
    /// Attempts to load policies and catalog, by result.
    pub reloads: IntCounterVec,
    /// Questions to the server of bundles, by outcome.
    pub pulls: IntCounterVec,
    /// 1 while changed files are refused, or the server's bundle is, and older rules decide.
    pub rules_stale: IntGauge,
    /// When the rules that decide were loaded, seconds since the Unix epoch.
    pub rules_loaded: IntGauge,
    /// Which rules decide: 1, with the digests as labels.
    pub rules_info: IntGaugeVec,
    /// Times that a policy came in force, by how.
    pub activations: IntCounterVec,
    /// 1 while a checked policy waits for a person.
    pub policy_waiting: IntGauge,
    /// 1 while a candidate decides a part of the calls.
    pub policy_canary: IntGauge,
    /// Decisions of a canary, by outcome.
    pub canary_decisions: IntCounterVec,
    /// What a candidate in shadow said of decisions, by how it differs.
    pub shadow: IntCounterVec,
    /// Requests to backends, by backend and result.
    pub backend_requests: IntCounterVec,
    /// Readings of what upstream MCP servers offer, by server and result.
    pub upstream_reads: IntCounterVec,
    /// 1 while what an upstream MCP server offers can be read.
    pub upstream_up: IntGaugeVec,
    /// Exchanges that a backend takes at once, as its limit stands, by backend.
    pub backend_limit: IntGaugeVec,
    /// Exchanges with a backend that are under way, by backend.
    pub backend_in_flight: IntGaugeVec,
    /// Calls that wait for room at a backend, by backend.
    pub backend_queue: IntGaugeVec,
    /// Calls turned away before they were sent, by backend and class.
    pub backend_shed: IntCounterVec,
    /// Exchanges that were tried again, by backend and why.
    pub backend_retries: IntCounterVec,
    /// Members of a backend, by backend and state.
    pub backend_members: IntGaugeVec,
    /// Times that a breaker opened or closed, by backend and state.
    pub backend_breaker: IntCounterVec,
    /// Answers withheld because they carried a foreign record.
    pub foreign_records: IntCounter,
    /// Records that could not be kept, by what became of the call.
    pub journal_faults: IntCounterVec,
    /// Operations of the ledger, by what became of them.
    pub ledger_operations: IntCounterVec,
    /// Time for an operation of the ledger, with its commit.
    pub ledger_seconds: HistogramVec,
    /// Refusals for too many messages, by what was used up.
    pub limited: IntCounterVec,
    /// 1 while replicas that should count together count each for itself.
    pub limits_alone: IntGauge,
    /// Streams that tell clients of changes.
    pub subscriptions: IntGauge,
    /// Times that a client was told of a change, by what changed.
    pub changes_told: IntCounterVec,
    /// Calls whose client hung up, or gave up, after the request had been sent on.
    pub carried_to_end: IntCounter,
}

impl Metrics {
    /// All metrics, registered once.
    ///
    /// # Panics
    /// When two metrics share a name, which the test of this room rules out.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one list: each metric with the words that its reader sees")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Make(&registry);
        Self {
            requests: make.counters(
                "loopgate_requests_total",
                "MCP requests answered, by method and code. A rise of codes other than ok is a rise of refusals.",
                &["method", "code"],
            ),
            stages: make.histograms(
                "loopgate_stage_seconds",
                "Time spent in each step of a call. forward is the backend's share.",
                &["stage"],
            ),
            in_flight: make.gauge("loopgate_requests_in_flight", "MCP requests under way."),
            operators: make.counters(
                "loopgate_operator_requests_total",
                "Requests about approvals, writes and the journal at the operators' door, by operation and code.",
                &["operation", "code"],
            ),
            credentials_refused: make.counters(
                "loopgate_credentials_refused_total",
                "Credentials refused, by cause. A sudden rise is an attack or an issuer that changed.",
                &["cause"],
            ),
            door_refused: make.counters(
                "loopgate_door_refused_total",
                "Requests and handshakes refused at the MCP door before any message was read, by cause. A sudden rise is an attack or a broken proxy.",
                &["cause"],
            ),
            certificate_expires: make.gauges(
                "loopgate_tls_certificate_expires_timestamp_seconds",
                "When the certificate of a listener ends. Clients go away then.",
                &["listener"],
            ),
            certificate_stale: make.gauges(
                "loopgate_tls_certificate_stale",
                "1 while changed certificate files of a listener are refused and the last good ones stay in force; /readyz says why.",
                &["listener"],
            ),
            reconciled: make.counter(
                "loopgate_writes_reconciled_total",
                "Writes whose answer was lost and whose outcome the gateway found out.",
            ),
            records_aggregated: make.counter(
                "loopgate_refusals_aggregated_total",
                "Refusals of callers nobody knows and of callers beyond their rates, counted in a later record instead of having their own because they came too fast.",
            ),
            policy_faults: make.counters(
                "loopgate_policy_faults_total",
                "Policy evaluations that gave no trustworthy answer; each was a deny.",
                &["fault"],
            ),
            reloads: make.counters(
                "loopgate_rules_reloads_total",
                "Attempts to load changed policies and catalog, by result: loaded or refused.",
                &["result"],
            ),
            pulls: make.counters(
                "loopgate_policy_pulls_total",
                "Questions to the server of policy bundles, by outcome: new, unchanged, refused or away.",
                &["outcome"],
            ),
            rules_stale: make.gauge(
                "loopgate_rules_stale",
                "1 while changed files or the server's bundle are refused, or it cannot be had, and the last good rules decide; /readyz says why.",
            ),
            rules_loaded: make
                .gauge("loopgate_rules_loaded_timestamp_seconds", "When the rules that decide now were loaded."),
            rules_info: make.gauges(
                "loopgate_rules_info",
                "The rules that decide now: 1, with digests as labels.",
                &["bundle", "data", "catalog", "engine"],
            ),
            activations: make.counters(
                "loopgate_policy_activations_total",
                "Times that a policy came in force, by how: first, automatic, person, promoted or rolled_back.",
                &["how"],
            ),
            policy_waiting: make.gauge(
                "loopgate_policy_waiting",
                "1 while a checked policy waits for a replay report and a person; `loopgate policy status` names it.",
            ),
            policy_canary: make
                .gauge("loopgate_policy_canary", "1 while a candidate decides about a part of the callers."),
            canary_decisions: make.counters(
                "loopgate_policy_canary_decisions_total",
                "Decisions of a canary, by outcome: allow, pending, deny or fault.",
                &["outcome"],
            ),
            shadow: make.counters(
                "loopgate_policy_shadow_total",
                "What a candidate in shadow said of decisions, by how it differs; dropped were not asked about for lack of time.",
                &["result"],
            ),
            backend_requests: make.counters(
                "loopgate_backend_requests_total",
                "Requests to backends, by result: a status class, or what went wrong.",
                &["backend", "result"],
            ),
            upstream_reads: make.counters(
                "loopgate_upstream_reads_total",
                "Readings of what upstream MCP servers offer, by result: ok, or what went wrong.",
                &["server", "result"],
            ),
            upstream_up: make.gauges(
                "loopgate_upstream_up",
                "1 while what an upstream MCP server offers can be read; while it cannot, its last offer stays.",
                &["server"],
            ),
            backend_limit: make.gauges(
                "loopgate_backend_limit",
                "Exchanges that a backend is trusted with at once; it follows how fast answers come.",
                &["backend"],
            ),
            backend_in_flight: make.gauges(
                "loopgate_backend_in_flight",
                "Exchanges with a backend that are under way.",
                &["backend"],
            ),
            backend_queue: make.gauges(
                "loopgate_backend_queue",
                "Calls that wait for room at a backend.",
                &["backend"],
            ),
            backend_shed: make.counters(
                "loopgate_backend_shed_total",
                "Calls turned away with `overloaded` before anything was sent, by class: read or write.",
                &["backend", "class"],
            ),
            backend_retries: make.counters(
                "loopgate_backend_retries_total",
                "Exchanges tried again: stale or failed of reads, unsent of anything; denied when the budget of reads was spent.",
                &["backend", "why"],
            ),
            backend_members: make.gauges(
                "loopgate_backend_members",
                "Members of a backend, by state: healthy, unhealthy (health checks fail), open (its breaker lets nothing through).",
                &["backend", "state"],
            ),
            backend_breaker: make.counters(
                "loopgate_backend_breaker_total",
                "Times that the breaker of a member opened or closed.",
                &["backend", "state"],
            ),
            foreign_records: make.counter(
                "loopgate_foreign_records_total",
                "Answers withheld because a record belonged to another tenant. Each one is a backend fault to look into.",
            ),
            journal_faults: make.counters(
                "loopgate_journal_faults_total",
                "Records that could not be made durable, by what became of the call: refused, unanswered or best_effort.",
                &["result"],
            ),
            ledger_operations: make.counters(
                "loopgate_ledger_operations_total",
                "Operations of the ledger, by result: ok, unavailable or unreadable. Governed writes stop while it is not ok.",
                &["operation", "result"],
            ),
            ledger_seconds: make.histograms(
                "loopgate_ledger_seconds",
                "Time for an operation of the ledger, its commit included.",
                &["operation"],
            ),
            limited: make.counters(
                "loopgate_rate_limited_total",
                "Messages refused because there were too many, by what was used up: tenant, user, tool, class, failures, concurrent or subscriptions.",
                &["limit"],
            ),
            limits_alone: make.gauge(
                "loopgate_limits_alone",
                "1 while the shared counters cannot be reached and each replica lets through the whole rate.",
            ),
            subscriptions: make.gauge("loopgate_subscriptions", "Streams open that tell clients of changes."),
            changes_told: make.counters(
                "loopgate_changes_told_total",
                "Notifications to clients that what they may see has changed, by what: tools.",
                &["what"],
            ),
            carried_to_end: make.counter(
                "loopgate_carried_to_end_total",
                "Calls that had been sent on and were finished and recorded although the client had hung up or given up.",
            ),
            registry,
        }
    }

    /// Counts a request as under way until the guard is dropped, however it ends.
    #[must_use]
    pub fn under_way(&self) -> UnderWay {
        self.in_flight.inc();
        UnderWay(self.in_flight.clone())
    }

    /// Counts time towards a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages.with_label_values(&[stage.as_str()]).observe(took.as_secs_f64());
    }

    /// Every metric in Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Names and help of every metric, for documents and dashboards.
    #[must_use]
    pub fn names(&self) -> Vec<(String, String)> {
        self.registry.gather().iter().map(|family| (family.name().to_owned(), family.help().to_owned())).collect()
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay(IntGauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes and registers. Every failure here is a name written twice, found by the first test run.
struct Make<'a>(&'a Registry);

impl Make<'_> {
    #[expect(clippy::expect_used, reason = "names are literals of this file; a clash is found by any start")]
    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> M {
        let metric = made.expect("metric options are literals of this file");
        self.0.register(Box::new(metric.clone())).expect("each metric name stands once in this file");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        // WHY: from 10 µs (a decision) to 10 s (a slow backend), about three per decade.
        let buckets = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0].to_vec();
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_help_for_the_person_on_call() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["tools/call", "ok"]).inc();
        metrics.stage(Stage::Decide, Duration::from_micros(20));
        assert!(metrics.render().contains("loopgate_requests_total{code=\"ok\",method=\"tools/call\"} 1"));
        assert!(metrics.names().iter().all(|(name, help)| name.starts_with("loopgate_") && help.len() > 20));
    }
}

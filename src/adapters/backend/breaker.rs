//! A circuit breaker: whether a member that keeps failing is tried at all.
//!
//! Promises: pure, the time is a value; after `failures` in a row nothing is sent for a while; then
//! one read is let through, or a health check is awaited, never a write; whoever was let through
//! before it opened has no say in closing it. Each rest is twice the one before, until an exchange
//! succeeds. Called by [`super::members`].

use std::time::Duration;

use tokio::time::Instant;

/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(30);

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The first rest.
    pub rest: Duration,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circuit {
    /// Everything goes.
    Closed,
    /// Nothing goes before this moment; after it one read, as a trial.
    Open(Instant),
    /// A trial has been under way since this moment.
    Trying(Instant),
}

/// What an exchange was let through as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// How often it had opened by then.
    opened: u64,
}

/// One member's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    rules: BreakerRules,
    circuit: Circuit,
    failures: u32,
    opened: u64,
    rest: Duration,
}

impl Breaker {
    pub(super) fn new(rules: BreakerRules) -> Self {
        Self { rules, circuit: Circuit::Closed, failures: 0, opened: 0, rest: rules.rest }
    }

    pub(super) fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// Lets an exchange through, or says how long to wait. Only what `may_try` is a trial.
    pub(super) fn admit(&mut self, now: Instant, may_try: bool) -> Result<Pass, Duration> {
        match self.circuit {
            Circuit::Closed => Ok(Pass { opened: self.opened }),
            Circuit::Open(until) if now < until => Err(until - now),
            // WHY again after a rest: whoever made the trial may have gone without a word.
            Circuit::Trying(since) if now < since + self.rest => Err(since + self.rest - now),
            Circuit::Open(_) | Circuit::Trying(_) if may_try => {
                self.circuit = Circuit::Trying(now);
                Ok(Pass { opened: self.opened })
            }
            Circuit::Open(_) | Circuit::Trying(_) => Err(self.rest),
        }
    }

    /// An exchange went well. Says whether that closed it.
    pub(super) fn succeeded(&mut self, pass: Pass) -> bool {
        if pass.opened != self.opened {
            return false;
        }
        let was_open = self.circuit != Circuit::Closed;
        (self.circuit, self.failures, self.rest) = (Circuit::Closed, 0, self.rules.rest);
        was_open
    }

    /// An exchange went wrong in a way that tells of the member. Says whether that opened it.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant) -> bool {
        if pass.opened != self.opened {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = match self.circuit {
            Circuit::Closed => self.failures >= self.rules.failures,
            // Only the trial has this pass.
            Circuit::Trying(_) | Circuit::Open(_) => true,
        };
        if opens {
            self.circuit = Circuit::Open(now + self.rest);
            self.rest = self.rest.saturating_mul(2).min(REST_MAX.max(self.rules.rest));
            self.failures = 0;
            self.opened += 1;
        }
        opens
    }

    /// A health check went well: after its rest the member is let through again. Says whether it was not before.
    pub(super) fn checked(&mut self, now: Instant) -> bool {
        let until = match self.circuit {
            Circuit::Closed => return false,
            Circuit::Open(until) => until,
            Circuit::Trying(since) => since + self.rest,
        };
        if now < until {
            return false;
        }
        // WHY the rest stays long: a member may accept connections and fail at everything else.
        (self.circuit, self.failures) = (Circuit::Closed, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(2);
    const JUST_BEFORE: Duration = Duration::from_millis(1_999);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BreakerRules { failures: 3, rest: REST });
        for nth in 1..=3 {
            let pass = breaker.admit(now, false).unwrap();
            assert_eq!(breaker.failed(pass, now), nth == 3);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_between_starts_the_row_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerRules { failures: 3, rest: REST });
        for _ in 0..10 {
            for _ in 0..2 {
                let pass = breaker.admit(now, false).unwrap();
                assert!(!breaker.failed(pass, now));
            }
            let pass = breaker.admit(now, false).unwrap();
            assert!(!breaker.succeeded(pass));
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }

    #[test]
    fn a_write_is_never_the_trial_and_one_read_is() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.admit(start + JUST_BEFORE, true), Err(Duration::from_millis(1)));
        let later = start + REST;
        assert!(breaker.admit(later, false).is_err(), "a write waits for somebody else's success");
        let trial = breaker.admit(later, true).unwrap();
        assert!(breaker.admit(later, true).is_err(), "one trial at a time");
        assert!(breaker.succeeded(trial));
        assert!(breaker.admit(later, false).is_ok());
    }

    #[test]
    fn a_trial_that_fails_makes_the_rest_longer_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for rest in [4, 8, 16, 30, 30] {
            let Circuit::Open(until) = breaker.circuit() else { panic!("open") };
            now = until;
            let trial = breaker.admit(now, true).unwrap();
            assert!(breaker.failed(trial, now));
            assert_eq!(breaker.circuit(), Circuit::Open(now + Duration::from_secs(rest)));
        }
    }

    #[test]
    fn what_began_before_it_opened_has_no_say_in_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerRules { failures: 1, rest: REST });
        let (old, failing) = (breaker.admit(now, false).unwrap(), breaker.admit(now, false).unwrap());
        assert!(breaker.failed(failing, now));
        assert!(!breaker.succeeded(old));
        assert!(!breaker.failed(old, now));
        assert_eq!(breaker.circuit(), Circuit::Open(now + REST));
    }

    #[test]
    fn a_trial_that_is_never_heard_of_again_does_not_keep_it_open() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let lost = breaker.admit(now + REST, true).unwrap();
        let later = now + REST * 4;
        assert!(breaker.admit(later, true).is_ok());
        assert!(breaker.succeeded(lost), "and when it is heard of, it counts");
        let mut breaker = opened(now);
        breaker.admit(now + REST, true).unwrap();
        assert!(!breaker.checked(now + REST));
        assert!(breaker.checked(later));
    }

    #[test]
    fn a_health_check_closes_it_after_the_rest_and_not_before() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.checked(now + JUST_BEFORE));
        assert!(breaker.checked(now + REST));
        assert!(!breaker.checked(now + REST), "it was closed already");
        for nth in 1..=3 {
            let pass = breaker.admit(now + REST, false).unwrap();
            assert_eq!(breaker.failed(pass, now + REST), nth == 3);
        }
        assert_eq!(breaker.circuit(), Circuit::Open(now + REST + REST * 2), "the next rest is longer");
    }
}

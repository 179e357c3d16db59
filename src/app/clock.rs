//! The one home of the wall clock and of randomness.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::pep::ports::Clock;

/// The operating system's clock and random numbers.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn now_ms(&self) -> i64 {
        // WHY: a clock before 1970 is as wrong as any; 0 makes every token and timer refuse.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::expect_used, reason = "without randomness no id is safe, so the process must not go on")]
    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
        bytes
    }
}

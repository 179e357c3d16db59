//! Nothing reached the backend: what the caller hears of it.
//!
//! Promises: says whether it is away or has too much to do, and when to come back where that is known;
//! names no host and no cause. Called by `act` and by the preview.

use super::ports::SendFault;
use super::ports::SendFaultKind;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;

/// Nothing was sent: why, and when to come back.
pub(super) fn unsent(fault: &SendFault) -> Refusal {
    let (refusal, wait_ms) = match fault.kind {
        SendFaultKind::Overloaded { retry_ms } => {
            let message = "LoopIQ has as much to do as it takes; nothing was sent";
            (Refusal::because(Code::Overloaded, message), Some(retry_ms))
        }
        SendFaultKind::Resting { retry_ms } => (Refusal::of(Code::BackendUnavailable), Some(retry_ms)),
        SendFaultKind::Unreachable | SendFaultKind::Timeout | SendFaultKind::Broken | SendFaultKind::TooLarge => {
            (Refusal::of(Code::BackendUnavailable), None)
        }
    };
    let refusal = refusal.detail(fault);
    match wait_ms {
        Some(wait_ms) => refusal.with("retryAfterMs", wait_ms).with("retryAfter", wait_ms.div_ceil(1_000).max(1)),
        None => refusal,
    }
}

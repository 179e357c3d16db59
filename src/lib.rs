//! loopgate: a policy-as-code gateway and sidecar in front of the LoopIQ APIs.
//!
//! # The sentence
//!
//! receive → authenticate → resolve tenant → decide → (preview, approve) → remember → record
//! intent → forward → inspect → settle → audit → answer
//!
//! [`pep`] is that sentence. The same words name its steps, the `stage` label of metrics, the
//! fields of the audit and the headings of the README.
//!
//! # The layers
//!
//! A room imports only from rooms above it; `tests/tidy.rs` reads every `use` and says so.
//!
//! 1. [`domain`] is pure: no IO, no clock, no randomness, no waiting. `refusal` holds every way to
//!    say no; `canonical` reads JSON strictly; `limit` says how often; `mcp`, `identity`, `upstream`
//!    and `catalog` say what was asked, by whom, what other MCP servers offer, and what exists;
//!    `pdp` decides and is the only maker of a `Permit`; `approval`, `idempotency`, `inspect` and
//!    `audit` say what people agreed to, what happens once, what may be shown and what is written
//!    down; `replay` says what another policy would have made of it; `rollout` which policy is in
//!    force, and how one follows another.
//! 2. [`metrics`] and [`config`] name what is counted and what can be set.
//! 3. [`pep`] holds the order of the steps and the ports it needs from outside; [`pep::desk`] is what
//!    people do with approvals and writes.
//! 4. [`adapters`] do the IO, each behind a port or a door; [`sandbox`] is a stand-in LoopIQ.
//! 5. [`app`] puts the parts together, starts and drains them.
//! 6. [`cli`] is what people type.
//!
//! # What must not happen
//!
//! - Nothing reaches a backend without a `Permit`, and a permit is good for exactly the tenant,
//!   tool, arguments and dry-run flag that policy decided about.
//! - No answer that shows anything leaves before its record is durable.
//! - Nothing of high impact is sent but on an approval that covers its exact request and preview,
//!   by other people, consumed in the same step that makes the write the caller's to send.
//! - A write has one effect: it is durable as `sent` before its first byte leaves; while its outcome
//!   is unknown it is sent again only as the same bytes under a key that the backend honours.
//! - The client's token and the client's headers have no way to a backend.
//! - What the caller may not see answers as what does not exist.
//! - A record of another tenant goes no further than `domain::inspect`.

pub mod domain;
pub mod metrics;
pub mod config;
pub mod pep;
pub mod adapters;
pub mod sandbox;
pub mod app;
pub mod cli;

//! Every input that the fuzzer starts from, and every one that once broke a promise, kept in `corpus/`.
//!
//! The same promises as the fuzzer's, without it: stable Rust, every run, in seconds.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]
#![expect(clippy::expect_used, reason = "a broken promise is a panic, which is what the fuzzer looks for")]
#![expect(clippy::panic, reason = "a broken promise is a panic, which is what the fuzzer looks for")]

#[expect(unreachable_pub, reason = "the fuzzer's own package needs them public")]
#[path = "src/lib.rs"]
mod promises;

use std::fs;
use std::path::Path;

/// Holds the promise over every file of its corpus.
fn replay(target: &str, holds: fn(&[u8])) {
    let dir = Path::new("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has only {} inputs", dir.display(), files.len());
    for file in files {
        let data = fs::read(&file).unwrap();
        let held = std::panic::catch_unwind(|| holds(&data));
        assert!(held.is_ok(), "broken by {}", file.display());
    }
}

#[test]
fn strict_json_means_one_thing_and_has_one_form() {
    replay("json", promises::json::holds);
}

#[test]
fn a_message_is_what_was_sent_or_a_refusal() {
    replay("rpc", promises::rpc::holds);
}

#[test]
fn a_head_that_passes_is_read_by_everybody_as_it_is_read_here() {
    replay("headers", promises::headers::holds);
}

#[test]
fn nobody_gets_in_but_on_a_signature_by_the_pinned_key() {
    replay("token", promises::token::holds);
}

#[test]
fn a_value_fills_one_segment_whatever_it_holds() {
    replay("template", promises::template::holds);
}

#[test]
fn an_altered_journal_is_never_found_to_be_in_order() {
    replay("segment", promises::segment::holds);
}

#[test]
fn a_state_opens_only_as_it_was_sealed() {
    replay("state", promises::state::holds);
}

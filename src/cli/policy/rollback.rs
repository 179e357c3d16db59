//! `loopgate policy rollback`: a canary, or the policy in force, is taken back at once.
//!
//! Promises: one command and no question, for whoever types it is in a hurry. What was taken back
//! does not come back by itself. Called by `cli::policy`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::PolicyFault;
use super::status;
use crate::cli::remote::Place;

#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    place: Place,
    /// Go back to this revision of the history, not to the one before
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) fn run(rollback: &Rollback, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let remote = rollback.place.reach()?;
    let mut body = json!({"reason": rollback.reason});
    if let (Some(members), Some(to)) = (body.as_object_mut(), &rollback.to) {
        members.insert("to".to_owned(), to.as_str().into());
    }
    let standing = status::wait(remote.post(&["policy", "rollback"], &body))?;
    status::tell(&standing, rollback.place.json, out)
}

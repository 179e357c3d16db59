//! Records as the audit commands look at them.
//!
//! Promises: what is printed has no control, direction or hidden characters, whatever a client put
//! in; a directory without a journal is a fault, not an empty answer. Never judges a record.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Stop;
use crate::adapters::journal::find;
pub(super) use crate::cli::print::plain;
pub(super) use crate::cli::print::plain_json;
pub(super) use crate::cli::print::time;
pub(super) use crate::domain::audit::entry::Entry;

/// Reads every record under a directory, writer by writer, in order.
pub(super) fn each(dir: &Path, take: impl FnMut(Entry)) -> Result<(), Stop> {
    there(dir)?;
    find::each(dir, |_| true, take).map_err(unread)
}

/// Every record of the action that goes by an id, in order.
pub(super) fn story(dir: &Path, id: &str) -> Result<Vec<Entry>, Stop> {
    there(dir)?;
    find::story(dir, id, None).map_err(unread)
}

fn there(dir: &Path) -> Result<(), Stop> {
    match find::exists(dir) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Stop::Usage(format!("there is no journal in {}", dir.display()))),
        Err(error) => Err(Stop::file(dir, error)),
    }
}

fn unread((path, error): (PathBuf, io::Error)) -> Stop {
    Stop::file(&path, error)
}

//! The files of one upstream server: what of it is accepted, and what it offered last.
//!
//! Promises: a file is replaced whole or not at all; one that is not there yet says that nothing is
//! accepted; one that was written by hand and does not fit is a fault. Called by [`super`] and the
//! catalog commands.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::domain::upstream::Offer;
use crate::domain::upstream::pins::Pins;

/// The files of one server.
#[derive(Debug, Clone)]
pub struct Books {
    /// The accepted definitions.
    pub accepted: PathBuf,
    /// What it offered last.
    pub offered: PathBuf,
}

impl Books {
    /// The accepted definitions are there; what was offered stands beside them.
    #[must_use]
    pub fn at(accepted: PathBuf) -> Self {
        let offered = accepted.with_extension("offered.json");
        Self { accepted, offered }
    }

    /// What is accepted of this server.
    pub fn read(&self, server: &str) -> Result<Pins, String> {
        let told = |cause: String| format!("{}: {cause}", self.accepted.display());
        match std::fs::read_to_string(&self.accepted) {
            Ok(text) => Pins::read(&text, server).map_err(told),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Pins::none(server)),
            Err(cause) => Err(told(cause.to_string())),
        }
    }

    /// Replaces what is accepted.
    pub fn write(&self, pins: &Pins) -> Result<(), String> {
        let text = serde_json::to_string_pretty(pins).map_err(|cause| cause.to_string())?;
        replace(&self.accepted, &(text + "\n"))
    }

    /// What the server offered last; none if the gateway has not seen it yet.
    pub fn last_offer(&self) -> Result<Option<Offer>, String> {
        let told = |cause: String| format!("{}: {cause}", self.offered.display());
        match std::fs::read_to_string(&self.offered) {
            Ok(text) => {
                let document: Value = serde_json::from_str(&text).map_err(|cause| told(cause.to_string()))?;
                Offer::from_document(&document).map(Some).ok_or_else(|| told("it is no offer".to_owned()))
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(told(cause.to_string())),
        }
    }

    /// Writes down what the server offers, if it is not written down.
    pub(super) fn note(&self, offer: &Offer) -> Result<(), String> {
        let text = format!("{:#}\n", offer.to_document());
        if std::fs::read_to_string(&self.offered).is_ok_and(|old| old == text) {
            return Ok(());
        }
        replace(&self.offered, &text)
    }
}

/// Writes beside the file, durably, then puts it in its place.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let aside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().map_err(|cause| format!("{}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::upstream::pins::Kind;

    #[test]
    fn what_is_written_is_read_and_what_was_spoilt_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let books = Books::at(dir.path().join("up/crm.json"));
        assert_eq!(books.read("crm").unwrap(), Pins::none("crm"));
        assert_eq!(books.last_offer().unwrap(), None);
        let mut pins = Pins::none("crm");
        pins.accept(Kind::Tool, "find", &json!({"name": "find"}));
        books.write(&pins).unwrap();
        assert_eq!(books.read("crm").unwrap(), pins);
        std::fs::write(&books.accepted, "{").unwrap();
        assert!(books.read("crm").unwrap_err().contains("crm.json"));
    }
}

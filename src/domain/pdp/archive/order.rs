//! Which bundle of a server may follow which.
//!
//! Promises: what was taken is never followed by something older unless that is asked for; the same
//! serial never stands for two bundles; where the order cannot be told, the answer is no. A signature
//! says who made a bundle, and this says when: without it, whoever can put files on the server could
//! put an old one back, with a good signature. Called by `adapters::reload`.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::pdp::archive::About;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;
use crate::domain::pdp::archive::MANIFEST;
use crate::domain::pdp::archive::Opened;

/// Bundles without a serial that are remembered, to know them again.
const EARLIER_MAX: usize = 200;

/// What was taken from a server so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The greatest serial.
    #[serde(default)]
    serial: Option<u64>,
    /// Its revision, as whoever built it calls it.
    #[serde(default)]
    revision: String,
    /// The bundle that was taken last.
    #[serde(default)]
    last: Option<Content>,
    /// Those before it, the latest first.
    #[serde(default)]
    earlier: Vec<Content>,
}

/// A bundle by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    bundle: String,
    data: String,
}

impl Taken {
    /// What is remembered once `opened` was taken, or why it may not follow.
    pub fn next(&self, opened: &Opened, allow_rollback: bool) -> Result<Self, ArchiveFault> {
        let About { serial, revision, .. } = &opened.about;
        let content =
            Content { bundle: opened.bundle.digest().to_owned(), data: opened.bundle.data_digest().to_owned() };
        if !allow_rollback {
            self.admits(*serial, &content)?;
        }
        let mut next = self.clone();
        next.serial = if allow_rollback { *serial } else { self.serial.max(*serial) };
        next.revision.clone_from(revision);
        if let Some(last) = next.last.replace(content.clone()).filter(|last| *last != content) {
            next.earlier.insert(0, last);
        }
        next.earlier.retain(|earlier| *earlier != content);
        next.earlier.truncate(EARLIER_MAX);
        Ok(next)
    }

    fn admits(&self, serial: Option<u64>, content: &Content) -> Result<(), ArchiveFault> {
        let again = self.last.as_ref() == Some(content);
        let older = |message: String| {
            let remedy = "serve a newer one, or set `policy.bundle.allow_rollback` for as long as you mean it";
            Err(ArchiveFault::new(Code::OlderRevision, MANIFEST, message, remedy))
        };
        match (serial, self.serial) {
            (Some(new), Some(last)) if new < last => {
                older(format!("its serial {new} is before {last}, which was taken"))
            }
            (Some(new), Some(last)) if new == last && !again => {
                older(format!("its serial {new} was taken already, with other content"))
            }
            (None, Some(last)) => older(format!("it has no serial, and one with the serial {last} was taken")),
            (None, None) if self.earlier.contains(content) => older("it was taken before the one in force".to_owned()),
            (Some(_), _) | (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pdp::bundle::Bundle;

    fn opened(serial: Option<u64>, content: u32) -> Opened {
        let policy = ("a.rego".to_owned(), format!("package a\nx := {content}").into_bytes());
        let bundle = Bundle::from_files(vec![policy]).unwrap();
        Opened { bundle, about: About { serial, ..About::default() }, roots: None }
    }

    /// What becomes of bundles in a row: (serial, content); yes or no for each.
    fn row(allow_rollback: bool, bundles: &[(Option<u64>, u32)]) -> Vec<bool> {
        let mut taken = Taken::default();
        let mut said = Vec::new();
        for (serial, content) in bundles {
            let next = taken.next(&opened(*serial, *content), allow_rollback);
            said.push(next.is_ok());
            match next {
                // As it will be after a restart.
                Ok(next) => taken = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap(),
                Err(fault) => assert_eq!(fault.code, Code::OlderRevision),
            }
        }
        said
    }

    #[test]
    fn an_older_bundle_never_follows_a_newer_one() {
        assert_eq!(
            row(false, &[(Some(5), 1), (Some(6), 2), (Some(5), 1), (Some(6), 2), (Some(7), 1)]),
            [true, true, false, true, true]
        );
        assert_eq!(row(false, &[(Some(5), 1), (Some(5), 2)]), [true, false], "one serial, two bundles");
        assert_eq!(row(false, &[(Some(5), 1), (None, 2)]), [true, false], "nobody can tell which is older");
        assert_eq!(
            row(false, &[(None, 1), (None, 2), (None, 1), (None, 2), (None, 3)]),
            [true, true, false, true, true]
        );
        assert_eq!(row(false, &[(None, 1), (None, 2), (Some(1), 1), (Some(0), 3)]), [true, true, true, false]);
    }

    #[test]
    fn the_same_content_signed_anew_is_no_step_back_and_keeps_its_place() {
        assert_eq!(row(false, &[(Some(5), 1), (Some(9), 1), (Some(8), 2)]), [true, true, false]);
    }

    #[test]
    fn whoever_asks_for_it_may_go_back_and_then_forward_again() {
        assert_eq!(row(true, &[(Some(6), 2), (Some(5), 1), (Some(6), 2), (None, 3)]), [true, true, true, true]);
        let back = Taken::default().next(&opened(Some(6), 2), false).unwrap().next(&opened(Some(5), 1), true).unwrap();
        assert!(back.next(&opened(Some(4), 3), false).is_err());
        assert!(back.next(&opened(Some(6), 2), false).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut taken = Taken::default();
        for content in 0..300 {
            taken = taken.next(&opened(None, content), false).unwrap();
        }
        assert_eq!(taken.earlier.len(), EARLIER_MAX);
        assert!(taken.next(&opened(None, 298), false).is_err());
    }
}

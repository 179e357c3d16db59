//! The cases of two bundles, decided under both.
//!
//! Promises: a case counts once, whichever bundle it stands in; each is decided the way that serves,
//! with the tools of the bundle that decides; one that cannot be asked is named. Called by
//! `policy diff`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::adapters::reload::bundle;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::print_faults;
use crate::cli::print;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::cases;
use crate::domain::pdp::cases::Table;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::replay;
use crate::domain::replay::change::Class;

/// A case that is decided otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Flip {
    pub(super) table: String,
    pub(super) case: String,
    pub(super) class: Class,
    pub(super) before: Outcome,
    pub(super) after: Outcome,
    /// What each says, where that differs.
    pub(super) words: Vec<String>,
}

/// What came of all cases.
#[derive(Debug, Default, Serialize)]
pub(super) struct Flips {
    pub(super) decided: usize,
    pub(super) flips: Vec<Flip>,
    /// Cases that cannot be asked under one of the two, and why.
    pub(super) undecided: Vec<(String, String)>,
}

/// Tables by path.
pub(super) type Tables = BTreeMap<String, Table>;

/// The case tables of a bundle.
pub(super) fn tables(dir: &Path, out: &mut dyn Write) -> Result<Tables, PolicyFault> {
    // An archive carries no cases.
    if dir.is_file() {
        return Ok(Tables::new());
    }
    let files = bundle::files(dir).or_else(|faults| print_faults(&faults, out))?;
    let mut tables = Tables::new();
    for (path, bytes) in files {
        let name = path.strip_prefix("cases/").and_then(|name| name.strip_suffix(".yaml"));
        if name.is_some_and(|name| name != "tools") {
            let table = cases::read(&path, &String::from_utf8_lossy(&bytes));
            tables.insert(path, table.or_else(|fault| print_faults(&[fault], out))?);
        }
    }
    Ok(tables)
}

type Side<'a> = (&'a Pdp, &'a BTreeMap<String, ToolFacts>);

/// Every case of both, each once: as the new bundle has it, else as the old one has.
pub(super) fn flips([old, new]: &[Tables; 2], before: Side<'_>, after: Side<'_>) -> Flips {
    let mut found = Flips::default();
    for (path, table) in new.iter().chain(old) {
        let again = |name: &str| {
            new.get(path).is_some_and(|new| !std::ptr::eq(new, table) && new.cases.iter().any(|case| case.name == name))
        };
        for case in table.cases.iter().filter(|case| !again(&case.name)) {
            match (table.input(case, before.1), table.input(case, after.1)) {
                (Ok(old_input), Ok(input)) => {
                    found.decided += 1;
                    let (old, new) = (before.0.decide(&old_input), after.0.decide(&input));
                    if let Some(class) = replay::class_of(&input, &old, &new) {
                        found.flips.push(flip(path, &case.name, class, (&old, &new)));
                    }
                }
                (Err(why), _) | (_, Err(why)) => found.undecided.push((format!("{path}: {}", case.name), why)),
            }
        }
    }
    found
}

fn flip(path: &str, case: &str, class: Class, (old, new): (&Ruling, &Ruling)) -> Flip {
    let said = |ruling: &Ruling| -> Vec<String> {
        let reasons = ruling.reasons().iter().map(|reason| format!("{}: {}", reason.code, reason.message));
        let obligations = serde_json::to_string(ruling.obligations()).unwrap_or_default();
        std::iter::once(format!("{:?}", ruling.outcome()).to_lowercase())
            .chain(reasons)
            .chain([format!("must {obligations}")])
            .map(|words| print::plain(&words))
            .collect()
    };
    let (before, after) = (said(old), said(new));
    let only = |name: &str, these: &[String], those: &[String]| -> Option<String> {
        let words: Vec<&str> = these.iter().filter(|one| !those.contains(one)).map(String::as_str).collect();
        (!words.is_empty()).then(|| format!("{name} {}", words.join("; ")))
    };
    let seen = |sign: &str, these: &Ruling, those: &Ruling| -> Option<String> {
        let names: Vec<&str> = these.visible().iter().filter(|name| !those.sees(name)).map(String::as_str).collect();
        (!names.is_empty()).then(|| print::plain(&format!("{sign} {}", names.join(", "))))
    };
    let words = [
        only("before:", &before, &after),
        only("after: ", &after, &before),
        seen("newly seen:", new, old),
        seen("newly hidden:", old, new),
    ];
    Flip {
        table: path.to_owned(),
        case: case.to_owned(),
        class,
        before: old.outcome(),
        after: new.outcome(),
        words: words.into_iter().flatten().collect(),
    }
}

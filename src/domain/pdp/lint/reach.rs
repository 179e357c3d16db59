//! Rules that decide nothing.
//!
//! Promises: a rule that nothing reachable from the entry point refers to is told. In the package of the
//! entry point it keeps the bundle from being loaded: there it is a no that is never said, such as
//! `reason contains …` beside `reasons`. Elsewhere it may be a function of a library that this
//! bundle does not use, and is only pointed out. Tests do not count. Called by `pdp::lint`.

use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::Findings;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::Index;
use crate::domain::pdp::lint::nearest;

/// Checks every rule.
pub(super) fn check(index: &Index, entry: &str) -> Findings {
    let mut found = Findings::default();
    let reached = index.reached(entry);
    if reached.is_empty() {
        return found;
    }
    let package = entry.rsplit_once('.').map_or(entry, |(package, _)| package);
    for (path, span) in index.never_needed(&reached) {
        let (within, name) = path.rsplit_once('.').unwrap_or(("", path));
        let below = format!("{within}.");
        let own = within == package;
        let siblings = reached.iter().filter_map(|other| other.strip_prefix(&below));
        let remedy = match nearest(name, siblings) {
            Some(meant) => {
                format!("did you mean `{meant}`? If not, let a rule that decides refer to it, or take it away")
            }
            None => "let a rule that decides refer to it, or take it away".to_owned(),
        };
        let message = format!("no rule that decides refers to `{name}`, so it changes no decision");
        let list = if own { &mut found.faults } else { &mut found.warnings };
        list.push(fault_at(span, Code::UnreachableRule, message, remedy));
    }
    found
}

//! Fields that are not there.
//!
//! Promises: a path that no input, no row of the data and no value of a rule can have is refused, with
//! the names that exist there. A misspelt field is undefined for ever, and undefined under `not` is
//! an allow. Called by `pdp::lint::types`.

use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::nearest;
use crate::domain::pdp::lint::types::Lost;
use crate::domain::pdp::lint::types::Place;
use crate::domain::pdp::lint::types::Types;
use crate::domain::pdp::lint::types::shape::Missing;
use crate::domain::pdp::lint::types::shape::Origin;

/// Names told at once.
const NAMES_MAX: usize = 16;

/// Checks one reference.
pub(super) fn check<'a>(types: &Types<'a>, place: &Place<'a>, chain: &Chain<'a>) -> Option<BundleFault> {
    let Lost { so_far, step, at, missing } = types.followed(place, chain).err()?;
    let whole = format!("{so_far}{}", step.written());
    let (message, meant) = match (&missing, &step) {
        (Missing::Among(names), Part::Name(name)) if !names.is_empty() => {
            let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > NAMES_MAX { ", …" } else { "" };
            let message = format!("there is no `{whole}`; `{so_far}` has {shown}{more}");
            (message, nearest(name, names.iter().map(String::as_str)).map(str::to_owned))
        }
        (Missing::Among(_), _) => (format!("`{so_far}` has no members, so `{whole}` is never there"), None),
        (Missing::List, _) => (format!("`{so_far}` is a list, so `{whole}` is never there"), None),
        (Missing::Scalar, _) => {
            (format!("`{so_far}` is {} and has no members, so `{whole}` is never there", at.kinds.words()), None)
        }
    };
    let (code, see) = match (at.origin, &missing) {
        (_, Missing::List) => (Code::TypeClash, "go over it with `some item in list`"),
        (Origin::Input, _) => (Code::UnknownInputField, "see `policies/schema/input.json` for what policies are given"),
        (Origin::Data, _) => (Code::UnknownDataField, "see `schema/data.json` for what the tables have"),
        (Origin::Rules, _) => (Code::UnknownField, "see the rules that give it"),
    };
    let remedy = meant.map_or_else(|| see.to_owned(), |meant| format!("did you mean `{meant}`? {see}"));
    Some(fault_at(chain.span, code, message, remedy))
}

//! What the table's plain entries do: list and show.
//!
//! Promises: runs whatever an [`Operation`] says, inside the caller's books. Never decides status
//! or headers. Called by `sandbox::ledger`.

use serde_json::Value;

use super::books::Books;
use super::operation::Act;
use super::operation::Ask;
use super::operation::Operation;
use super::problem::Problem;

/// Does what the operation does.
pub(super) fn perform(operation: &Operation, books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    match operation.act {
        Act::List(kind) => books.page(kind, ask, &[]),
        Act::Show(kind, variable) => books.get(kind, ask.var(variable)),
        Act::Run(run) => run(books, ask),
    }
}

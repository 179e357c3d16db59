//! Diagnostics and the organisation's settings.
//!
//! Promises: settings are replaced whole, and the members shown beside them are not changed by
//! it. Never shows another organisation's. Listed in `sandbox::table`.

use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::put;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

const SETTINGS: &str = "tenant-settings";

/// How LoopIQ does.
pub(super) fn diagnostics(books: &mut Books<'_>, _: &Ask) -> Result<Value, Problem> {
    let sql = "SELECT count(*) FROM executions WHERE tenant = ?1";
    let executions: i64 = books.transaction().query_row(sql, [books.tenant()], |row| row.get(0))?;
    Ok(json!({
        "id": "diagnostics",
        "tenant": books.tenant(),
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "records": books.counts()?,
        "executions": executions,
    }))
}

/// Settings and members.
pub(super) fn settings(books: &mut Books<'_>, _: &Ask) -> Result<Value, Problem> {
    let mut settings = books.get(Kind::Settings, SETTINGS)?;
    put(&mut settings, "members", Value::from(books.all(Kind::Member, |_| true)?));
    Ok(settings)
}

/// Replaces the settings.
pub(super) fn update_settings(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let members = ["displayName", "blockersMustBeClosed", "evidenceFreshHours", "notificationEmail"];
    let changes = members.into_iter().filter_map(|name| Some((name, ask.body.get(name)?.clone()))).collect();
    books.update(Kind::Settings, SETTINGS, changes)?;
    settings(books, ask)
}

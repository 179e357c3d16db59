//! What a backend says when it is asked what became of a write.
//!
//! Promises: only an answer that says so makes a write one that happened, or one that was refused; a
//! page, a list, an answer about another organisation or a state that is not known settle nothing.
//! Never asks. Called by `pep::reconcile`.

use serde_json::{Map, Value};

use crate::domain::canonical;
use crate::domain::canonical::Limits;

/// Ids of records that are kept of one answer.
const RECORD_IDS_MAX: usize = 1_000;

/// What LoopIQ was heard to say of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It happened.
    Executed {
        /// Its own answer, where the backend has kept it: status and body.
        answer: Option<(u16, Map<String, Value>)>,
        /// The records that the books name.
        record_ids: Vec<String>,
    },
    /// It was refused, and nothing happened.
    Refused {
        /// With this status.
        status: u16,
        /// And this body.
        body: Map<String, Value>,
    },
    /// Nothing that settles it, for this reason.
    Nothing(&'static str),
}

impl Told {
    /// Reads the answer to a lookup: `{"status"?, "state"?, "tenant"?, "body"?, "recordIds"?}`, where
    /// `status` is that of the write's own answer. `refuses` tells which statuses prove that nothing happened.
    #[must_use]
    pub fn read(bytes: &[u8], limits: &Limits, tenant: &str, refuses: impl Fn(u16) -> bool) -> Self {
        let Ok(Value::Object(mut told)) = canonical::parse(bytes, limits) else {
            return Self::Nothing("LoopIQ's books answer with what is no JSON object");
        };
        if told.get("tenant").is_some_and(|named| named.as_str() != Some(tenant)) {
            return Self::Nothing("LoopIQ's books answer with another organisation's execution");
        }
        let state = told.get("state").map(|state| state.as_str().unwrap_or_default().to_owned());
        if state.as_deref().is_some_and(|state| state != "executed") {
            return Self::Nothing("LoopIQ's books do not say that it was executed");
        }
        let status = match told.get("status") {
            None => None,
            Some(status) => match status.as_u64().and_then(|status| u16::try_from(status).ok()) {
                Some(status) => Some(status),
                None => return Self::Nothing("LoopIQ's books name no status that is one"),
            },
        };
        let body = match told.remove("body") {
            Some(Value::Object(body)) => Some(body),
            _ => None,
        };
        match status {
            Some(200..=299) => {}
            Some(status) if refuses(status) => return Self::Refused { status, body: body.unwrap_or_default() },
            Some(_) => return Self::Nothing("LoopIQ's books name a status that proves nothing"),
            None if state.is_some() => {}
            None => return Self::Nothing("LoopIQ's books do not say what became of it"),
        }
        let listed = told.get("recordIds").and_then(Value::as_array).into_iter().flatten();
        let record_ids = listed.filter_map(Value::as_str).take(RECORD_IDS_MAX).map(str::to_owned).collect();
        Self::Executed { answer: status.zip(body), record_ids }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(told: &Value) -> Told {
        let refuses = |status| (400..500).contains(&status) && status != 429;
        Told::read(told.to_string().as_bytes(), &Limits::default(), "org_gcn", refuses)
    }

    #[test]
    fn only_books_that_say_so_make_a_write_one_that_happened() {
        let ids = vec!["WI-1".to_owned()];
        let body = Map::from_iter([("id".to_owned(), json!("WI-1"))]);
        let whole = json!({"tenant": "org_gcn", "state": "executed", "status": 201, "body": body, "recordIds": ids});
        assert_eq!(read(&whole), Told::Executed { answer: Some((201, body)), record_ids: ids.clone() });
        for bare in [json!({"state": "executed", "recordIds": ids}), json!({"status": 200, "recordIds": ids})] {
            assert_eq!(read(&bare), Told::Executed { answer: None, record_ids: ids.clone() });
        }
        for silent in [
            json!([]),
            json!({}),
            json!({"items": []}),
            json!({"recordIds": ids}),
            json!({"state": "in_progress", "status": 202}),
            json!({"state": "failed"}),
            json!({"state": null, "status": 200}),
            json!({"status": "200"}),
            json!({"status": 500, "state": "executed"}),
            json!({"status": 429, "state": "executed"}),
            json!({"status": 65_736, "state": "executed"}),
        ] {
            assert!(matches!(read(&silent), Told::Nothing(_)), "{silent}");
        }
        let page = Told::read(b"<html>ok</html>", &Limits::default(), "org_gcn", |_| true);
        assert!(matches!(page, Told::Nothing(_)));
    }

    #[test]
    fn books_about_another_organisation_settle_nothing() {
        for tenant in [json!("org_nordbank"), json!(null), json!(["org_gcn"])] {
            let foreign = json!({"tenant": tenant, "state": "executed", "status": 201, "recordIds": ["NB-1"]});
            assert!(matches!(read(&foreign), Told::Nothing(_)), "{foreign}");
        }
    }

    #[test]
    fn books_that_remember_a_no_settle_it_as_one() {
        let no = json!({"state": "executed", "status": 422, "body": {"error": {"code": "orphan"}}});
        let Told::Refused { status, body } = read(&no) else { panic!("{no}") };
        assert_eq!((status, body["error"]["code"].as_str()), (422, Some("orphan")));
    }
}

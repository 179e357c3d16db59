//! Which records tell of one action, over all the requests that it took.
//!
//! Promises: starts from any one id and follows what records have in common (request, approval,
//! execution, a caller's idempotency key) until nothing new is found; a record's id leads to the
//! writes that made or changed it, and not to everyone who read it; traces are not followed, for
//! one may hold many actions. Never reads a file: records are given in as many passes as it asks for.
//! Called by `adapters::journal`.

use std::collections::BTreeSet;

use super::entry::Entry;

/// How a record answers to the id that was asked for; the strongest answer counts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// It shows the record of that id, and changed nothing.
    Shows,
    /// It made or changed the record of that id.
    Wrote,
    /// The id is one of its own.
    Named,
}

/// What records have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Links {
    requests: BTreeSet<String>,
    approvals: BTreeSet<String>,
    executions: BTreeSet<String>,
    /// With tenant, issuer and user, for others may choose the same.
    keys: BTreeSet<[String; 4]>,
    /// Of records that have nothing else.
    references: BTreeSet<String>,
}

impl Links {
    fn of(entry: &Entry) -> Self {
        let one = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect();
        let key = entry.own("idempotency_key");
        // WHY: who votes on somebody's write names its key, and may have chosen the same one themselves.
        let key = (!key.is_empty() && entry.method() == "tools/call")
            .then(|| [entry.tenant(), entry.issuer(), entry.user(), key].map(str::to_owned));
        let requests: BTreeSet<String> = one(entry.request_id());
        let references = if requests.is_empty() { one(entry.reference()) } else { BTreeSet::new() };
        Self {
            requests,
            approvals: one(entry.own("approval_id")),
            executions: one(entry.own("execution_id")),
            keys: key.into_iter().collect(),
            references,
        }
    }

    fn touches(&self, other: &Self) -> bool {
        !self.requests.is_disjoint(&other.requests)
            || !self.approvals.is_disjoint(&other.approvals)
            || !self.executions.is_disjoint(&other.executions)
            || !self.keys.is_disjoint(&other.keys)
            || !self.references.is_disjoint(&other.references)
    }

    fn add(&mut self, other: Self) {
        self.requests.extend(other.requests);
        self.approvals.extend(other.approvals);
        self.executions.extend(other.executions);
        self.keys.extend(other.keys);
        self.references.extend(other.references);
    }

    fn texts(&self) -> impl Iterator<Item = &String> {
        let keys = self.keys.iter().map(|[.., key]| key);
        self.requests.iter().chain(&self.approvals).chain(&self.executions).chain(&self.references).chain(keys)
    }
}

/// Finds the records of one action.
#[derive(Debug)]
pub struct Story {
    id: String,
    answer: Option<Answer>,
    links: Links,
    begun: bool,
    needles: Vec<String>,
    found: Vec<Entry>,
}

impl Story {
    /// The action that goes by this id.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            answer: None,
            links: Links::default(),
            begun: false,
            needles: vec![needle(id)],
            found: Vec::new(),
        }
    }

    /// Whether a line may hold a record of it; a cheap look that lets few others through.
    #[must_use]
    pub fn may_hold(&self, line: &str) -> bool {
        self.needles.iter().any(|needle| line.contains(needle.as_str()))
    }

    /// Looks at one record of this pass.
    pub fn look(&mut self, entry: Entry) {
        let of_entry = Links::of(&entry);
        if !self.begun {
            let Some(answer) = answer(&entry, &self.id) else { return };
            if self.answer < Some(answer) {
                (self.answer, self.links) = (Some(answer), Links::default());
            }
            if self.answer == Some(answer) {
                self.links.add(of_entry);
            }
        } else if self.links.touches(&of_entry) {
            self.links.add(of_entry);
            self.found.push(entry);
        }
    }

    /// Ends a pass over all records. True: another one is needed, from the first record on.
    pub fn again(&mut self) -> bool {
        let needles: Vec<String> = self.links.texts().map(|text| needle(text)).collect();
        let grown = !self.begun || needles.len() != self.needles.len();
        self.begun = true;
        self.needles = needles;
        let again = grown && !self.needles.is_empty();
        if again {
            self.found.clear();
        }
        again
    }

    /// Its records, by time.
    #[must_use]
    pub fn told(self) -> Vec<Entry> {
        let mut found = self.found;
        found.sort_by(|one, other| order(one).cmp(&order(other)));
        found
    }
}

/// The order in which records are told: by time, then by their place in the journal.
#[must_use]
pub fn order(entry: &Entry) -> (i64, &str, (u64, u64)) {
    let writer = entry.reference().split('/').next().unwrap_or_default();
    (entry.time_ms(), writer, entry.seq())
}

/// Sorts records that have nothing in common into actions of their own, each in its order.
#[must_use]
pub fn actions(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut actions: Vec<(Links, Vec<Entry>)> = Vec::new();
    for entry in entries {
        let mut links = Links::of(&entry);
        let (same, others): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|(of_action, _)| of_action.touches(&links));
        actions = others;
        let mut told = Vec::new();
        for (of_action, entries) in same {
            links.add(of_action);
            told.extend(entries);
        }
        told.push(entry);
        actions.push((links, told));
    }
    let mut actions: Vec<Vec<Entry>> = actions.into_iter().map(|(_, entries)| entries).collect();
    for action in &mut actions {
        action.sort_by(|one, other| order(one).cmp(&order(other)));
    }
    actions.sort_by(|one, other| one.first().map(order).cmp(&other.first().map(order)));
    actions
}

fn answer(entry: &Entry, id: &str) -> Option<Answer> {
    if entry.goes_by(id) {
        return Some(Answer::Named);
    }
    if !entry.record_ids().any(|one| one == id) {
        return None;
    }
    let wrote = entry.execution() == "executed" && !entry.own("execution_id").is_empty();
    Some(if wrote { Answer::Wrote } else { Answer::Shows })
}

/// The text as it stands within JSON.
fn needle(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    /// A record with a time, a request and what else it has in common with others.
    fn entry(time: i64, request: &str, own: &Value, resources: &[&str]) -> Entry {
        let ids: Vec<Value> = resources.iter().map(|id| json!({ "uid": id })).collect();
        let value = json!({
            "time": time,
            "metadata": {"uid": format!("w/1/{time}")},
            "actor": {"user": {"uid": own.get("user").cloned().unwrap_or_else(|| json!("ada"))}},
            "api": {"operation": "tools/call", "request": {"uid": request}},
            "trace": {"uid": "t"},
            "resources": ids,
            "unmapped": {"loopgate": own},
        });
        Entry::read(&value.to_string()).unwrap()
    }

    /// One approved write from its asking to its replay, among calls of others.
    fn journal() -> Vec<Entry> {
        vec![
            entry(
                1,
                "r1",
                &json!({"stage": "approval.requested", "approval_id": "apr_1", "idempotency_key": "k"}),
                &[],
            ),
            entry(2, "r2", &json!({"stage": "approval.vote", "approval_id": "apr_1", "user": "otto"}), &[]),
            entry(3, "r2", &json!({"stage": "approval.approved", "approval_id": "apr_1", "user": "otto"}), &[]),
            entry(4, "r3", &json!({"stage": "intent", "approval_id": "apr_1", "execution_id": "x1"}), &[]),
            entry(5, "r4", &json!({"stage": "outcome", "execution_id": "x9"}), &[]),
            entry(
                6,
                "r3",
                &json!({"stage": "outcome", "execution_id": "x1", "execution": {"outcome": "executed"}}),
                &["WI-1"],
            ),
            entry(7, "r5", &json!({"stage": "outcome", "execution": {"outcome": "executed"}}), &["WI-1"]),
            entry(8, "r6", &json!({"stage": "outcome", "execution_id": "x1", "execution": {"replayed": true}}), &[]),
            entry(9, "r7", &json!({"stage": "denied", "idempotency_key": "k", "user": "ben"}), &[]),
        ]
    }

    fn told(id: &str) -> Vec<i64> {
        let mut story = Story::of(id);
        loop {
            for entry in journal() {
                if story.may_hold(&entry.line) {
                    story.look(entry);
                }
            }
            if !story.again() {
                return story.told().iter().map(Entry::time_ms).collect();
            }
        }
    }

    #[test]
    fn any_id_of_an_action_leads_to_all_of_it_in_its_order() {
        for id in ["apr_1", "x1", "WI-1", "w/1/2", "r3", "r6"] {
            assert_eq!(told(id), [1, 2, 3, 4, 6, 8], "{id}");
        }
    }

    #[test]
    fn what_others_did_is_another_story() {
        assert_eq!(told("x9"), [5]);
        assert_eq!(told("r5"), [7], "whoever read the record");
        assert_eq!(told("r7"), [9], "whoever chose the same key");
        assert_eq!(told("nothing"), [] as [i64; 0]);
        assert_eq!(told("k"), [1, 2, 3, 4, 6, 8, 9], "a bare key is everybody's who chose it");
        assert_eq!(told("t").len(), 9, "a trace holds what it holds");
    }

    #[test]
    fn a_trace_falls_apart_into_its_actions() {
        let actions = actions(journal());
        let times: Vec<Vec<i64>> = actions.iter().map(|action| action.iter().map(Entry::time_ms).collect()).collect();
        assert_eq!(times, [vec![1, 2, 3, 4, 6, 8], vec![5], vec![7], vec![9]]);
    }

    #[test]
    fn an_id_is_found_in_a_line_however_json_writes_it() {
        let entry = entry(1, "say \"r\\1\"", &json!({}), &[]);
        assert!(Story::of("say \"r\\1\"").may_hold(&entry.line));
    }
}

//! Promises of drift: every difference is named by its field, and what is the same differs in nothing.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[track_caller]
fn fields(approved: &Subject, now: &Subject) -> Vec<String> {
    drift(approved, now).unwrap().into_iter().map(|change| change.field).collect()
}

/// What is named when one member of the subject is set to something else.
#[track_caller]
fn named(pointer: &str, value: Value) -> Vec<String> {
    let mut now = serde_json::to_value(subject()).unwrap();
    *now.pointer_mut(pointer).unwrap() = value;
    fields(&subject(), &serde_json::from_value(now).unwrap())
}

#[test]
fn what_voids_an_approval_is_named_by_its_field() {
    for (field, value) in [
        ("/tenant", json!("org_nordbank")),
        ("/requester/user", json!("ben")),
        ("/requester/issuer", json!("https://other.example")),
        ("/client", json!("agent-8")),
        ("/workflow", json!("wf-2")),
        ("/idempotencyKey", json!("key-2")),
        ("/idempotencyKey", Value::Null),
        ("/tool", json!("loopiq_delete_release")),
        ("/definition", json!("e".repeat(64))),
        ("/route", json!("DELETE /api/v1/releases/{release}")),
        ("/arguments/title", json!("break")),
        ("/arguments/count", json!(4)),
        ("/arguments/count", json!("3")),
        ("/arguments/due", json!("2026-12-01")),
        ("/arguments/tasks/0/title", json!("u")),
        ("/request/path", json!("/api/v1/releases/r-2/remediations")),
        ("/preview/total", json!(3)),
        ("/preview/creates/1/type", json!("epic")),
        ("/previewBy", json!("gateway")),
        ("/recordVersion", json!("\"8\"")),
        ("/recordVersion", Value::Null),
        ("/policyBundle", json!("0".repeat(64))),
        ("/policyData", json!("0".repeat(64))),
        ("/executeWithinS", json!(86_400)),
    ] {
        assert_eq!(named(field, value.clone()), [field], "{value}");
    }
    assert_eq!(named("/arguments/a~1b~0c", json!(false)), ["/arguments/a~1b~0c"], "names are escaped as pointers");
}

#[test]
fn a_change_carries_both_values() {
    let mut now = subject();
    now.arguments.insert("title".to_owned(), json!("break"));
    now.arguments.insert("more".to_owned(), json!([1]));
    let changes = drift(&subject(), &now).unwrap();
    let told: Vec<_> = changes.iter().map(|one| (one.field.as_str(), one.was.clone(), one.is.clone())).collect();
    assert_eq!(
        told,
        [("/arguments/more", Value::Null, json!([1])), ("/arguments/title", json!("fix"), json!("break"))]
    );
}

#[test]
fn an_argument_that_is_null_is_not_one_that_is_left_out() {
    // A PATCH that sends null clears the field; one that leaves it out does not touch it.
    let mut without = subject();
    without.arguments.remove("due");
    assert_eq!(fields(&subject(), &without), ["/arguments/due"]);
    assert_eq!(fields(&without, &subject()), ["/arguments/due"]);
    let list = |list: Value| {
        let mut subject = subject();
        subject.arguments.insert("tasks".to_owned(), list);
        subject
    };
    assert_eq!(fields(&list(json!([1])), &list(json!([1, null]))), ["/arguments/tasks/1"]);
    assert_eq!(fields(&list(json!([])), &list(json!([null]))), ["/arguments/tasks/0"]);
    assert_eq!(fields(&list(json!([])), &list(json!({}))), ["/arguments/tasks"]);
}

#[test]
fn what_the_requester_may_not_see_of_a_preview_voids_it_too() {
    let mut now = subject();
    now.preview_digest = "q".repeat(64);
    assert_eq!(fields(&subject(), &now), ["/previewDigest"], "the shown part is the same, the hidden part is not");
    now.preview = json!({"creates": [{"type": "story"}, {"type": "task"}], "total": 3});
    assert_eq!(fields(&subject(), &now), ["/preview/total"], "where the change shows, its digest is no news");
    now.preview = json!("gone");
    assert_eq!(fields(&subject(), &now), ["/preview"]);
}

#[test]
fn the_deadline_is_a_moment_and_no_drift() {
    let mut now = subject();
    now.approve_by_ms += 60_000;
    assert_eq!(fields(&subject(), &now), Vec::<String>::new());
}

#[test]
fn numbers_that_are_written_otherwise_are_the_same_number() {
    let with = |count: Value, title: &str| {
        let mut subject = subject();
        subject.arguments.insert("count".to_owned(), count);
        subject.arguments.insert("title".to_owned(), json!(title));
        subject
    };
    assert_eq!(fields(&with(json!(3), "a"), &with(json!(3.0), "a")), Vec::<String>::new());
    assert_eq!(fields(&with(json!(3), "a"), &with(json!(3.0), "b")), ["/arguments/title"], "and no change beside one");
    assert_eq!(fields(&with(json!(0), "a"), &with(json!(-0.0), "a")), Vec::<String>::new());
    assert_eq!(fields(&with(json!(3), "a"), &with(json!(3.000_000_1), "a")), ["/arguments/count"]);
}

#[test]
fn a_long_list_of_changes_is_cut_and_never_empty() {
    let mut now = subject();
    now.preview = json!((0..10_000).collect::<Vec<_>>());
    now.preview_digest = "q".repeat(64);
    now.arguments = (0..500).map(|n| (format!("n{n}"), json!(n))).collect();
    let named = fields(&subject(), &now);
    assert_eq!(named.len(), 20);
    assert!(named.iter().all(|field| field.starts_with("/arguments/")), "{named:?}");
}

/// The subject as a document, with one leaf or member changed: where, and the document.
fn neighbours() -> Vec<(String, Value)> {
    fn walk(whole: &Value, at: &str, out: &mut Vec<(String, Value)>) {
        let here = whole.pointer(at).unwrap();
        let mut put = |field: &str, value: Value| {
            let mut other = whole.clone();
            *other.pointer_mut(field).unwrap() = value;
            out.push((field.to_owned(), other));
        };
        match here {
            Value::Null => put(at, json!("something")),
            Value::Bool(value) => put(at, json!(!value)),
            Value::Number(value) => put(at, json!(value.as_u64().unwrap() + 1)),
            Value::String(value) if at == "/previewBy" => {
                assert_eq!(value, "backend");
                put(at, json!("none"));
            }
            Value::String(value) => put(at, json!(format!("{value}x"))),
            Value::Array(items) => {
                for index in 0..items.len() {
                    walk(whole, &format!("{at}/{index}"), out);
                }
            }
            Value::Object(members) => {
                for name in members.keys() {
                    walk(whole, &format!("{at}/{}", crate::domain::catalog::pointer::escape(name)), out);
                }
            }
        }
    }
    let whole = serde_json::to_value(subject()).unwrap();
    let mut out = Vec::new();
    walk(&whole, "", &mut out);
    out
}

#[test]
fn the_digest_changes_with_every_field_and_drift_names_just_that_one() {
    let approved = subject();
    let neighbours = neighbours();
    assert!(neighbours.len() > 25, "{}", neighbours.len());
    let mut seen = std::collections::BTreeSet::from([approved.digest().unwrap()]);
    for (field, document) in neighbours {
        let now: Subject = serde_json::from_value(document).unwrap();
        assert!(seen.insert(now.digest().unwrap()), "{field} is not in the digest");
        let expected = if field == "/approveByMs" { Vec::new() } else { vec![field.clone()] };
        assert_eq!(fields(&approved, &now), expected, "{field}");
    }
}

#[test]
fn a_subject_with_a_field_that_nobody_knows_is_not_read() {
    let mut document = serde_json::to_value(subject()).unwrap();
    document["sudo"] = json!(true);
    assert!(serde_json::from_value::<Subject>(document).is_err());
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..3).prop_map(Value::from),
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(0.5)].prop_map(Value::from),
        "[a-c/~]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c/~]{0,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
    #[test]
    fn there_is_a_change_exactly_where_the_digests_differ(one in json_value(), two in json_value(), hidden in any::<bool>()) {
        let with = |preview: &Value, digest: &str| Subject { preview: preview.clone(), preview_digest: digest.to_owned(), ..subject() };
        let (one, two) = (with(&one, "p"), with(&two, if hidden { "q" } else { "p" }));
        let same = one.digest().unwrap() == two.digest().unwrap();
        let changes = drift(&one, &two).unwrap();
        prop_assert_eq!(changes.is_empty(), same, "{:?}", changes);
        for change in &changes {
            prop_assert!(change.field.starts_with("/preview"), "{:?}", change);
        }
        prop_assert_eq!(changes.len(), drift(&two, &one).unwrap().len(), "drift has no direction");
    }
}

//! Promises of the inspection, tried on every tool of the catalog that comes with the gateway.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::catalog::BUILT_IN;
use crate::domain::catalog::Catalog;

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::from_yaml(BUILT_IN).unwrap());

fn tool(name: &str) -> &'static Tool {
    CATALOG.tool(name).unwrap()
}

fn tenant() -> Tenant {
    crate::domain::identity::forge::tenant("org_gcn")
}

fn look(name: &str, answer: &Value, redactions: &[&str]) -> Result<Inspected, Refusal> {
    let redactions: Vec<String> = redactions.iter().map(|path| (*path).to_owned()).collect();
    let body = serde_json::to_vec(answer).unwrap();
    inspect(&body, Some("application/json; charset=utf-8"), tool(name), &tenant(), &Limits::default(), &redactions)
}

fn code(result: Result<Inspected, Refusal>) -> Code {
    result.unwrap_err().code
}

/// An answer in which each pointer leads somewhere, every list with three elements, all of `tenant`.
fn answer(tool: &Tool) -> Value {
    let mut answer = json!({"id": "x", "tenant": "org_gcn"});
    if tool.tenant_fields.contains(&"/items/*/tenant".to_owned()) {
        answer = json!({"items": [], "nextCursor": null});
    }
    for pointer in &tool.tenant_fields {
        let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
        place(&mut answer, &tokens);
    }
    answer
}

fn place(at: &mut Value, tokens: &[&str]) {
    match tokens {
        [] => *at = json!("org_gcn"),
        ["*", rest @ ..] => {
            let items = at.as_array_mut().unwrap();
            items.resize(3, json!({"id": "y"}));
            for item in items {
                place(item, rest);
            }
        }
        [name, rest @ ..] => {
            let fresh = if rest.first() == Some(&"*") { json!([]) } else { json!({}) };
            let member = at.as_object_mut().unwrap().entry(*name).or_insert(fresh);
            place(member, rest);
        }
    }
}

#[test]
fn a_foreign_tenant_at_any_declared_place_withholds_the_answer() {
    let mut tried = 0;
    for tool in CATALOG.tools().filter(|tool| tool.route().is_some()) {
        let own = answer(tool);
        look(&tool.name, &own, &[]).unwrap_or_else(|refusal| panic!("{}: {refusal} {own}", tool.name));
        for pointer in tool.tenant_pointers() {
            let places = pointer.find(&own).values.len();
            assert!(places > 0, "{} {pointer}", tool.name);
            for nth in 0..places {
                for other in [
                    json!("org_nordbank"),
                    json!("ORG_GCN"),
                    json!("org_gcn "),
                    json!(""),
                    json!(["org_gcn"]),
                    json!(7),
                    Value::Null,
                ] {
                    let mut foreign = own.clone();
                    let concrete = pointer.to_string().replacen('*', &nth.to_string(), 1);
                    *foreign.pointer_mut(&concrete).unwrap() = other.clone();
                    let refusal = look(&tool.name, &foreign, &[]).unwrap_err();
                    assert_eq!(refusal.code, Code::ResponseWithheld, "{} {concrete} {other}", tool.name);
                    assert!(!refusal.to_string().contains("nordbank"), "{refusal}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_record_that_does_not_say_whose_it_is_is_withheld() {
    let one = "loopiq_get_release";
    let page = "loopiq_search_releases";
    for (name, answer) in [
        (one, json!({"id": "x"})),
        (one, json!([])),
        (one, json!("x")),
        (one, json!({"data": {"id": "x", "tenant": "org_gcn"}})),
        (page, json!({"items": [{"id": "x", "tenant": "org_gcn"}, {"id": "y"}], "nextCursor": null})),
        (page, json!({"items": ["x"], "nextCursor": null})),
        (page, json!({"rows": [{"id": "x", "tenant": "org_gcn"}]})),
        (page, json!({})),
    ] {
        assert_eq!(code(look(name, &answer, &[])), Code::ResponseWithheld, "{name} {answer}");
    }
    assert!(look(page, &json!({"items": [], "nextCursor": null}), &[]).is_ok());
}

#[test]
fn a_foreign_tenant_outside_the_declared_places_withholds_too() {
    for extra in [json!({"tenant": "org_nordbank"}), json!([[{"a": {"tenant": "org_nordbank"}}]])] {
        let answer = json!({"id": "x", "tenant": "org_gcn", "related": extra});
        assert_eq!(code(look("loopiq_get_release", &answer, &[])), Code::ResponseWithheld);
    }
    let own = json!({"id": "x", "tenant": "org_gcn", "related": [{"tenant": "org_gcn"}], "note": "org_nordbank"});
    assert!(look("loopiq_get_release", &own, &[]).is_ok());
}

#[test]
fn a_foreign_record_is_known_by_whatever_name_its_tenant_has() {
    let foreign = [
        json!({"Tenant": "org_nordbank"}),
        json!({"TENANT_ID": "org_nordbank"}),
        json!({"tenantId": "org_nordbank"}),
        json!({"tenant-id": "org_nordbank"}),
        json!({"tenantKey": "org_nordbank"}),
        json!({"tenants": ["org_gcn", "org_nordbank"]}),
        json!({"tenantIds": [["org_nordbank"]]}),
        json!({"tenant": {"id": "org_nordbank", "name": "Nordbank"}}),
        json!({"tenant": {"Key": "org_nordbank"}}),
        json!({"tenants": [{"id": "org_gcn"}, {"id": "org_nordbank"}]}),
        json!({"org": "org_nordbank"}),
        json!({"org": {"id": "org_nordbank"}}),
        json!({"orgId": "org_nordbank"}),
        json!({"ORG_ID": "org_nordbank"}),
        json!({"organisationId": "org_nordbank"}),
        json!({"organization_id": "org_nordbank"}),
    ];
    for related in foreign {
        let answer = json!({"id": "x", "tenant": "org_gcn", "related": [related]});
        let refusal = look("loopiq_get_release", &answer, &[]).unwrap_err();
        assert_eq!(refusal.code, Code::ResponseWithheld, "{answer}");
        assert!(!refusal.to_string().contains("nordbank"), "{refusal}");
        // A tool that declares no tenants is no way around.
        let bare = json!({"related": related});
        let of_analytics = look("loopiq_get_certification_analytics", &bare, &[]);
        assert_eq!(code(of_analytics), Code::ResponseWithheld, "{bare}");
    }
}

#[test]
fn what_only_sounds_like_a_tenant_withholds_nothing() {
    let own = json!({
        "id": "x", "tenant": "org_gcn", "tenantId": "org_gcn", "TENANT_IDS": ["org_gcn"], "orgId": "org_gcn",
        "related": [
            {"tenant": {"id": "org_gcn", "name": "Global Card Network"}}, {"tenant": null}, {"tenantId": null},
            {"tenantName": "Global Card Network", "tenantStatus": "active", "tenantCount": 1, "tenantRoleId": "r1"},
            {"org": "Global Card Network", "organisation": "Audit", "organization": "iso.org", "origin": "git"},
            {"tenantSettings": {"id": "settings-1"}, "tenancy": "shared", "note": "org_nordbank"},
        ],
    });
    look("loopiq_get_release", &own, &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
}

#[test]
fn what_cannot_be_read_in_full_is_not_shown() {
    let tenant = tenant();
    let read = |body: &[u8], content_type, limits: &Limits| {
        code(inspect(body, content_type, tool("loopiq_get_release"), &tenant, limits, &[]))
    };
    let json = Some("application/json");
    let bodies: [&[u8]; 8] = [
        b"{",
        b"{\"id\":1}x",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{\"tenant\":\"org_nordbank\",\"tenant\":\"org_gcn\",\"id\":\"x\"}",
        b"{\"id\":\"x\",\"tenant\":\"org_gcn\",\"n\":9007199254740993}",
        b"nul",
        b" ",
    ];
    for body in bodies {
        assert_eq!(read(body, json, &Limits::default()), Code::BackendFailed, "{}", String::from_utf8_lossy(body));
    }
    let fine = br#"{"id":"x","tenant":"org_gcn"}"#;
    for media in [None, Some("text/html"), Some("application/jsonp"), Some("text/json"), Some("")] {
        assert_eq!(read(fine, media, &Limits::default()), Code::BackendFailed, "{media:?}");
    }
    assert_eq!(read(fine, json, &Limits { bytes_max: 10, ..Limits::default() }), Code::ResponseTooLarge);
    assert_eq!(read(fine, json, &Limits { members_max: 1, ..Limits::default() }), Code::ResponseTooLarge);
    assert!(
        inspect(
            fine,
            Some("application/vnd.loopiq+json"),
            tool("loopiq_get_release"),
            &tenant,
            &Limits::default(),
            &[]
        )
        .is_ok()
    );
}

#[test]
fn an_answer_that_does_not_fit_its_schema_is_the_backends_failure() {
    let refusal = look("loopiq_get_release", &json!({"id": 7, "tenant": "org_gcn"}), &[]).unwrap_err();
    assert_eq!(refusal.code, Code::BackendFailed);
    assert!(refusal.detail.contains("`/id`") && !refusal.words().contains("/id"), "{refusal}");
}

#[test]
fn an_empty_answer_is_an_empty_object() {
    let tool = tool("loopiq_get_certification_analytics");
    let inspected = inspect(b"", None, tool, &tenant(), &Limits::default(), &[]).unwrap();
    assert_eq!(inspected.value, json!({}));
}

#[test]
fn redaction_hides_the_value_and_keeps_the_rest() {
    let answer = json!({"items": [
        {"id": "a", "tenant": "org_gcn", "ownerEmail": "a@x", "owner": {"email": "b@x"}},
        {"id": "b", "tenant": "org_gcn"},
    ], "nextCursor": null});
    let inspected =
        look("loopiq_search_releases", &answer, &["/items/*/ownerEmail", "/items/*/owner/email", "/items/*/nothing"])
            .unwrap();
    assert_eq!(
        inspected.value["items"][0],
        json!({"id": "a", "tenant": "org_gcn", "ownerEmail": REDACTED, "owner": {"email": REDACTED}})
    );
    assert_eq!(inspected.redacted, ["/items/*/ownerEmail", "/items/*/owner/email"]);
    assert_eq!(inspected.record_ids, ["a", "b"]);
}

#[test]
fn a_redaction_that_cannot_be_made_withholds_the_answer() {
    let answer = json!({"items": [{"id": "a", "tenant": "org_gcn"}], "nextCursor": null});
    assert_eq!(code(look("loopiq_search_releases", &answer, &["items"])), Code::ResponseWithheld);
    assert_eq!(code(look("loopiq_search_releases", &answer, &["/items"])), Code::ResponseWithheld, "no longer a page");
}

#[test]
fn record_ids_are_picked_once_each_and_bounded() {
    let package = json!({
        "tenant": "org_gcn", "workPackage": "WP-1", "parent": {"id": "S-1", "tenant": "org_gcn"},
        "children": [
            {"id": "T-1", "tenant": "org_gcn"},
            {"id": 7, "tenant": "org_gcn"},
            {"id": "T-1", "tenant": "org_gcn"},
            {"id": null, "tenant": "org_gcn"},
        ],
    });
    let inspected = look("loopiq_create_remediation_work_package", &package, &[]).unwrap();
    assert_eq!(inspected.record_ids, ["WP-1", "S-1", "T-1", "7"]);
    let items: Vec<Value> = (0..2_000).map(|at| json!({"id": format!("r{at}"), "tenant": "org_gcn"})).collect();
    let inspected = look("loopiq_search_releases", &json!({"items": items, "nextCursor": null}), &[]).unwrap();
    assert_eq!(inspected.record_ids.len(), RECORD_IDS_MAX);
}

#[test]
fn a_backends_no_becomes_a_refusal_with_its_reason() {
    let read = tool("loopiq_get_release");
    let body = br#"{"error":{"code":"release_not_found","message":"no release \u202e`x`\u0000 here"}}"#;
    let refusal = judge(read, 422, None, body).unwrap_err();
    assert_eq!(refusal.code, Code::BackendRejected);
    assert_eq!(
        (refusal.reasons[0].code.as_str(), refusal.reasons[0].message.as_str()),
        ("release_not_found", "no release `x` here")
    );
    assert_eq!((refusal.data.get("status"), refusal.retryable), (Some(&json!(422)), false));

    for (status, expected) in [
        (400, "invalid_request"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "conflict"),
        (412, "precondition_failed"),
        (418, "rejected"),
        (422, "unprocessable"),
    ] {
        for body in [
            &b""[..],
            b"<html>",
            br#"{"error":"x"}"#,
            br#"{"error":{"code":"../x","message":""}}"#,
            br#"{"error":{"code":"a","code":"b"}}"#,
        ] {
            let refusal = judge(read, status, None, body).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.reasons[0].code.as_str(), refusal.retryable),
                (Code::BackendRejected, expected, false),
                "{status}"
            );
            assert!(!refusal.reasons[0].message.is_empty() && !refusal.next.is_empty());
        }
    }
    let long = serde_json::to_vec(&json!({"error": {"code": "x".repeat(65), "message": "m".repeat(10_000)}})).unwrap();
    let refusal = judge(read, 409, None, &long).unwrap_err();
    assert_eq!((refusal.reasons[0].code.as_str(), refusal.reasons[0].message.chars().count()), ("conflict", 501));
}

#[test]
fn a_no_about_somebody_elses_record_is_told_in_the_gateways_own_words() {
    let told = |status: u16, body: &Value| {
        judge(tool("loopiq_get_release"), status, None, body.to_string().as_bytes()).unwrap_err()
    };
    let telling = "release R-7 is Nordbank's (org_nordbank)";
    for body in [
        json!({"error": {"code": "not_yours", "message": telling}}),
        json!({"error": {"code": "not_yours"}, "detail": telling}),
    ] {
        for status in [401, 402, 403, 404, 405, 410, 413, 418, 423, 428, 429, 451] {
            let refusal = told(status, &body);
            let said = format!("{refusal} {} {:?} {:?}", refusal.words(), refusal.reasons, refusal.data);
            assert!(!said.to_lowercase().contains("nordbank"), "{status}: {said}");
            assert!(status == 401 || refusal.reasons[0].code == "not_yours", "{status}: {said}");
        }
        for status in [400, 409, 412, 422] {
            assert_eq!(told(status, &body).reasons[0].message, telling, "{status}: about the caller's own request");
        }
    }
}

#[test]
fn a_call_may_be_repeated_only_when_that_is_safe() {
    let (read, write) = (tool("loopiq_get_release"), tool("loopiq_create_work_item"));
    let judged = |tool, status, retry_after| judge(tool, status, retry_after, b"").unwrap_err();
    let limited = judged(write, 429, Some("3"));
    assert_eq!(
        (limited.code, limited.retryable, limited.data.get("retryAfterMs")),
        (Code::BackendRejected, true, Some(&json!(3_000)))
    );
    assert_eq!(judged(read, 429, Some("99999999999999999")).data.get("retryAfterMs"), Some(&json!(3_600_000)));
    assert_eq!(judged(read, 503, Some("Wed, 21 Oct 2026 07:28:00 GMT")).data.get("retryAfterMs"), None);
    // A server that gave up waiting may have begun all the same.
    assert_eq!((judged(read, 408, None).code, judged(read, 408, None).retryable), (Code::BackendRejected, true));
    let gave_up = judged(write, 408, Some("3"));
    assert_eq!((gave_up.code, gave_up.retryable), (Code::BackendFailed, false));
    assert!(gave_up.next.contains("not known") && !gave_up.next.contains("call again"), "{}", gave_up.next);
    for status in [100, 301, 307, 401, 500, 502, 503, 599] {
        let (of_read, of_write) = (judged(read, status, None), judged(write, status, None));
        assert_eq!((of_read.code, of_read.retryable), (Code::BackendFailed, true), "{status}");
        assert_eq!((of_write.code, of_write.retryable), (Code::BackendFailed, false), "{status}");
        assert!(of_write.next.contains("not known"), "{status}");
    }
    for status in [200, 201, 204, 299] {
        assert!(judge(write, status, None, b"").is_ok());
    }
    let refusal = look("loopiq_create_work_item", &json!({"id": "x", "tenant": "org_nordbank"}), &[]).unwrap_err();
    assert!(!refusal.retryable && refusal.next.contains("accepted the write"), "{refusal}");
}

proptest! {
    #[test]
    fn no_bytes_from_a_backend_break_the_inspection(body in prop::collection::vec(any::<u8>(), 0..200), status in any::<u16>()) {
        let tool = tool("loopiq_search_releases");
        let _either = inspect(&body, Some("application/json"), tool, &tenant(), &Limits::default(), &["/items/*/id".to_owned()]);
        let _either = judge(tool, status, Some("1"), &body);
    }
}

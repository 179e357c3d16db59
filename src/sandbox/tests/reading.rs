//! What is read: isolation, filters, pages, computed states, refusals.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::BACKEND;
use super::GCN;
use super::Lab;
use super::NORD;
use super::item;

/// Ids of one tenant, each at the place where it would be shown.
const OF_NORDBANK: &[&str] = &[
    "/api/v1/releases/core-ledger-v5.2-NORD",
    "/api/v1/work-items/WI-2001",
    "/api/v1/applications/core-ledger",
    "/api/v1/modules/posting-engine",
    "/api/v1/certifications/cert-core-ledger-v5.2-NORD",
    "/api/v1/controls/DORA-Art.9",
    "/api/v1/evidence/ev-2001",
    "/api/v1/releases/core-ledger-v5.2-NORD/certification",
    "/api/v1/releases/core-ledger-v5.2-NORD/certification/evidence",
    "/api/v1/releases/core-ledger-v5.2-NORD/certification/blockers",
    "/api/v1/releases/core-ledger-v5.2-NORD/certification/gaps",
    "/api/v1/releases/core-ledger-v5.2-NORD/readiness",
    "/api/v1/releases/core-ledger-v5.2-NORD/certification/evidence-graph",
    "/api/v1/ai-ml-agents/evidence-gap-analyst/runs/RUN-2001",
];

#[tokio::test]
async fn a_record_of_another_tenant_does_not_exist() {
    let lab = Lab::open().await;
    for path in OF_NORDBANK {
        assert_eq!(lab.get(NORD, path).await.status, 200, "{path}");
        let foreign = lab.get(GCN, path).await;
        assert_eq!((foreign.status, foreign.text("/error/code").as_str()), (404, "not_found"), "{path}");
        // The words are those for a record that nobody has.
        let stranger = lab.get(GCN, &path.replace("NORD", "NONE").replace("200", "999")).await;
        assert_eq!(stranger.status, 404);
    }
}

#[tokio::test]
async fn a_list_never_shows_another_tenants_records() {
    let lab = Lab::open().await;
    let lists = ["releases", "work-items", "applications", "modules", "certifications", "controls", "evidence"];
    for list in lists.into_iter().chain(["provider-findings", "ai-ml-agents"]) {
        for tenant in [GCN, NORD] {
            let items = lab.get(tenant, &format!("/api/v1/{list}?limit=100")).await.items();
            assert!(!items.is_empty(), "{list} of {tenant}");
            assert!(items.iter().all(|item| item["tenant"] == tenant), "{list} of {tenant}: {items:?}");
        }
    }
    let filtered = lab.get(GCN, "/api/v1/work-items?release=core-ledger-v5.2-NORD").await;
    assert_eq!(filtered.items().len(), 0);
}

#[tokio::test]
async fn a_write_cannot_name_another_tenants_records() {
    let lab = Lab::open().await;
    let cases = [
        (json!({"title": "x", "type": "task", "parent": "WI-2001"}), "unknown_parent"),
        (json!({"title": "x", "type": "task", "release": "core-ledger-v5.2-NORD"}), "unknown_release"),
        (json!({"title": "x", "type": "task", "owner": "nora"}), "unknown_owner"),
    ];
    for (body, code) in cases {
        let seen = lab.post("/api/v1/work-items", &[], &body).await;
        assert_eq!((seen.status, seen.text("/error/code").as_str()), (422, code), "{body}");
    }
    let seen = lab.send(Method::PATCH, "/api/v1/work-items/WI-2001", &[], &json!({"title": "mine"})).await;
    assert_eq!(seen.status, 404);
    assert_eq!(lab.get(NORD, "/api/v1/work-items/WI-2001").await.text("/title"), "Certify core ledger 5.2");
}

#[tokio::test]
async fn filters_narrow_and_combine() {
    let lab = Lab::open().await;
    let ids = async |path: &str| -> Vec<String> {
        lab.get(GCN, path).await.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/api/v1/releases?q=CARD%20AUTH").await, ["backend-v1.0-GCN", "card-auth-v1.1-GCN"]);
    assert_eq!(ids("/api/v1/releases?q=card&status=planned").await, ["card-auth-v1.1-GCN"]);
    assert_eq!(ids("/api/v1/work-items?parent=WI-1001&type=bug").await, ["WI-1005"]);
    assert_eq!(ids("/api/v1/evidence?release=backend-v1.0-GCN&status=stale").await, ["ev-1004", "ev-1005"]);
    assert_eq!(ids("/api/v1/evidence?control=SOC2-CC8.1&status=missing").await, ["ev-1008"]);
    assert_eq!(ids("/api/v1/provider-findings?provider=snyk&severity=critical").await, ["fnd-1001"]);
    assert_eq!(ids("/api/v1/controls?framework=ISO27001").await, ["ISO27001-A.8.25"]);
    assert_eq!(ids("/api/v1/modules?application=settlement-engine").await, ["clearing-batch", "fx-rates"]);
    assert_eq!(ids("/api/v1/releases?q=nothing-like-this").await, Vec::<String>::new());
}

#[tokio::test]
async fn pages_together_hold_every_item_once() {
    let lab = Lab::open().await;
    for list in ["/api/v1/work-items?type=task", "/api/v1/evidence?limit=100", "/api/v1/controls?q=s"] {
        let list = list.replace("limit=100", "control=SOC2-CC8.1");
        let whole = lab.get(GCN, &format!("{list}&limit=100")).await.items();
        assert_eq!(walk(&lab, &list).await, whole, "{list}");
    }
    for part in ["evidence", "blockers", "gaps"] {
        let list = format!("{BACKEND}/certification/{part}?");
        let whole = lab.get(GCN, &format!("{list}&limit=100")).await.items();
        assert!(whole.len() >= 4, "{part}");
        assert_eq!(walk(&lab, &list).await, whole, "{part}");
    }
}

async fn walk(lab: &Lab, list: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = lab.get(GCN, &format!("{list}&limit=2{cursor}")).await;
        assert!(page.items().len() <= 2);
        items.extend(page.items());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name() {
    let lab = Lab::open().await;
    let cursor = lab.get(GCN, "/api/v1/evidence?limit=1").await.text("/nextCursor");
    let queries = [
        ("releases?limit=0", "`limit`"),
        ("releases?limit=101", "`limit`"),
        ("releases?limit=ten", "`limit`"),
        ("releases?cursor=%21%21", "`cursor`"),
        (&format!("releases?cursor={cursor}"), "`cursor`"),
        ("releases?status=shiny", "`status`"),
        ("releases?colour=red", "`colour`"),
        ("releases?dryRun=true", "`dryRun`"),
        ("releases?q=a&q=b", "`q`"),
        ("releases/backend-v1.0-GCN?limit=1", "`limit`"),
        ("analytics/releases?from=yesterday", "`from`"),
        ("analytics/releases?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "`from`"),
    ];
    for (query, named) in queries {
        let seen = lab.get(GCN, &format!("/api/v1/{query}")).await;
        assert_eq!(seen.status, 400, "{query}: {}", seen.body);
        assert!(seen.text("/error/message").contains(named), "{query}: {}", seen.body);
    }
    let unknown = lab.get(GCN, "/api/v1/nothing").await;
    assert_eq!((unknown.status, unknown.text("/error/code").as_str()), (404, "unknown_route"));
    let wrong = lab.send(Method::DELETE, "/api/v1/releases", &[], &json!({})).await;
    assert_eq!((wrong.status, wrong.text("/error/code").as_str()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn a_caller_names_a_tenant_that_exists_and_a_writer_a_user() {
    let lab = Lab::open().await;
    let nameless = lab.attempt(Method::GET, "/api/v1/releases", &[], None).await.unwrap();
    assert_eq!((nameless.status, nameless.text("/error/code").as_str()), (400, "tenant_required"));
    let stranger = lab.get("org_nobody", "/api/v1/releases").await;
    assert_eq!((stranger.status, stranger.text("/error/code").as_str()), (403, "unknown_tenant"));
    let two = [("x-loopiq-tenant", GCN), ("x-loopiq-tenant", NORD)];
    assert_eq!(lab.attempt(Method::GET, "/api/v1/releases", &two, None).await.unwrap().status, 400);
    let tenant_only = [("x-loopiq-tenant", GCN)];
    let seen = lab.attempt(Method::POST, "/api/v1/work-items", &tenant_only, Some(&item())).await.unwrap();
    assert_eq!((seen.status, seen.text("/error/code").as_str()), (400, "user_required"));
}

#[tokio::test]
async fn the_standing_of_the_backend_release_follows_its_records() {
    let lab = Lab::open().await;
    let view = lab.get(GCN, &format!("{BACKEND}/certification")).await;
    assert_eq!(view.body["summary"]["evidence"], json!({"fresh": 4, "stale": 2, "missing": 2}));
    assert_eq!(view.body["summary"]["blockers"], json!({"open": 3, "resolved": 1}));
    assert_eq!(lab.get(GCN, &format!("{BACKEND}/certification/gaps")).await.items().len(), 4);
    let readiness = lab.get(GCN, &format!("{BACKEND}/readiness")).await;
    assert_eq!(readiness.body["ready"], json!(false));

    let now = jiff::Timestamp::now().to_string();
    for evidence in ["ev-1004", "ev-1005", "ev-1006", "ev-1008"] {
        lab.meddle(GCN, "evidence", evidence, json!({"collectedAt": now})).await;
    }
    for blocker in ["blk-1001", "blk-1002", "blk-1003"] {
        lab.meddle(GCN, "blocker", blocker, json!({"status": "resolved"})).await;
    }
    let later = lab.get(GCN, &format!("{BACKEND}/certification")).await;
    assert_eq!(later.body["summary"]["evidence"], json!({"fresh": 8}));
    assert_ne!(later.etag, view.etag, "the version follows what the certification rests on");
    assert_eq!(lab.get(GCN, &format!("{BACKEND}/certification/gaps")).await.items().len(), 0);
    let checks = lab.get(GCN, &format!("{BACKEND}/readiness")).await.body["checks"].clone();
    let passed: BTreeSet<_> = checks.as_array().unwrap().iter().filter(|c| c["passed"] == true).collect_names();
    assert_eq!(passed, BTreeSet::from(["blockers_resolved".to_owned(), "evidence_fresh".to_owned()]));
}

trait Names {
    fn collect_names(self) -> BTreeSet<String>;
}

impl<'a, I: Iterator<Item = &'a Value>> Names for I {
    fn collect_names(self) -> BTreeSet<String> {
        self.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_release_without_certification_says_so() {
    let lab = Lab::open().await;
    let seen = lab.get(GCN, "/api/v1/releases/card-auth-v1.1-GCN/certification").await;
    assert_eq!((seen.status, seen.text("/error/code").as_str()), (404, "no_certification"));
}

#[tokio::test]
async fn a_stale_graph_stays_as_it_was_until_it_is_refreshed() {
    let lab = Lab::open().await;
    let path = format!("{BACKEND}/certification/evidence-graph");
    lab.meddle(GCN, "evidence_graph", "backend-v1.0-GCN", json!({"builtAt": "2026-01-15T09:00:00Z"})).await;
    let before = lab.get(GCN, &path).await;
    assert_eq!((&before.body["stale"], &before.body["revision"]), (&json!(true), &json!(1)));
    lab.meddle(GCN, "evidence", "ev-1007", json!({"collectedAt": null})).await;
    assert_eq!(lab.get(GCN, &path).await.bytes, before.bytes);
    let refreshed = lab.post(&format!("{path}/refresh"), &[], &json!({})).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    assert_eq!((&refreshed.body["stale"], &refreshed.body["revision"]), (&json!(false), &json!(2)));
    let node = |body: &Value| {
        body["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "ev-1007").unwrap()["status"].clone()
    };
    assert_eq!((node(&before.body), node(&refreshed.body)), (json!("fresh"), json!("missing")));
    let after = lab.get(GCN, &path).await;
    assert_eq!((after.bytes, after.etag), (refreshed.bytes, refreshed.etag));
}

#[tokio::test]
async fn every_edge_of_a_graph_joins_two_of_its_nodes() {
    let lab = Lab::open().await;
    for (tenant, release) in [(GCN, "backend-v1.0-GCN"), (GCN, "settlement-v2.3-GCN"), (NORD, "core-ledger-v5.2-NORD")]
    {
        let path = format!("/api/v1/releases/{release}/certification/evidence-graph");
        let graph = lab.get(tenant, &path).await.body;
        let nodes: BTreeSet<&str> =
            graph["nodes"].as_array().unwrap().iter().filter_map(|n| n["id"].as_str()).collect();
        assert_eq!(nodes.len(), graph["nodes"].as_array().unwrap().len(), "{release}: a node comes twice");
        for edge in graph["edges"].as_array().unwrap() {
            assert!(nodes.contains(edge["from"].as_str().unwrap()), "{release}: {edge}");
            assert!(nodes.contains(edge["to"].as_str().unwrap()), "{release}: {edge}");
        }
    }
}

#[tokio::test]
async fn analytics_are_counted_from_the_rows() {
    let lab = Lab::open().await;
    let before = lab.get(GCN, "/api/v1/analytics/releases").await.body;
    assert_eq!(before["total"], json!(6));
    assert_eq!(before["openBlockers"], json!(3));
    assert_eq!(before["leadTimeHoursAverage"], json!(112 * 24));
    lab.meddle(GCN, "release", "card-auth-v1.1-GCN", json!({"status": "development"})).await;
    let after = lab.get(GCN, "/api/v1/analytics/releases").await.body;
    assert_eq!(after["byStatus"]["development"], json!(2));
    assert!(after["byStatus"].get("planned").is_none());
    let narrow = lab.get(GCN, "/api/v1/analytics/releases?application=merchant-gateway").await.body;
    assert_eq!((&narrow["total"], &narrow["openBlockers"]), (&json!(2), &json!(0)));
    let none = lab.get(GCN, "/api/v1/analytics/releases?to=2001-01-01T00:00:00Z").await.body;
    assert_eq!((&none["total"], &none["leadTimeHoursAverage"]), (&json!(0), &Value::Null));
    let certifications = lab.get(GCN, "/api/v1/analytics/certifications").await.body;
    assert_eq!(certifications["byStatus"], json!({"certified": 2, "in_review": 2}));
}

#[tokio::test]
async fn an_agents_run_computes_its_output_and_is_kept() {
    let lab = Lab::open().await;
    let runs = "/api/v1/ai-ml-agents/evidence-gap-analyst/runs";
    let run = lab.post(runs, &[], &json!({"release": "backend-v1.0-GCN", "inputs": {"depth": 2}})).await;
    assert_eq!(run.status, 201, "{}", run.body);
    assert_eq!(run.body["output"]["count"], json!(4));
    let kept = lab.get(GCN, &format!("{runs}/{}", run.text("/id"))).await;
    assert_eq!((kept.bytes, kept.etag), (run.bytes.clone(), run.etag.clone()));
    let other = format!("/api/v1/ai-ml-agents/release-risk-scorer/runs/{}", run.text("/id"));
    assert_eq!(lab.get(GCN, &other).await.status, 404);
    let disabled =
        lab.post("/api/v1/ai-ml-agents/control-mapper/runs", &[], &json!({"release": "backend-v1.0-GCN"})).await;
    assert_eq!((disabled.status, disabled.text("/error/code").as_str()), (409, "agent_disabled"));
    let risk =
        lab.post("/api/v1/ai-ml-agents/release-risk-scorer/runs", &[], &json!({"release": "backend-v1.0-GCN"})).await;
    assert_eq!(risk.body["output"]["riskLevel"], json!("high"));
}

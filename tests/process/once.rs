//! A write happens once, on exactly what was approved: whatever is killed, lost, full or doubled.
//!
//! The gateway, its ledger and LoopIQ are processes. What LoopIQ counts as effects is compared with
//! what the clients were told, under every key.

mod books;
mod client;
mod moments;
mod rounds;
mod outages;
mod replicas;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use self::books::Books;
use self::client::Client;
use self::client::Heard;
use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::until;
use crate::postgres::Cluster;

/// Where the catalog has, or may have, a timeout.
const TIMEOUTS: [(&str, &str); 2] = [
    ("    route: POST /api/v1/work-items\n", "    route: POST /api/v1/work-items\n"),
    ("remediation-work-packages\n    timeout: 20s\n", "remediation-work-packages\n"),
];

/// How the settings of these tests name their ledger.
const LEDGER: &str = "ledger: {path: ledger.db}";

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A work item, which needs nobody's approval.
    Item,
    /// A remediation work package, which somebody else approves first.
    Package,
    /// A decision on a certification, after which the same decision would be refused.
    Decision,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::Item, Self::Package];

    fn tool(self) -> &'static str {
        match self {
            Self::Item => "loopiq_create_work_item",
            Self::Package => "loopiq_create_remediation_work_package",
            Self::Decision => "loopiq_decide_release_certification",
        }
    }

    /// The route at LoopIQ.
    fn path(self) -> &'static str {
        match self {
            Self::Item => "/api/v1/work-items",
            Self::Package => "/api/v1/releases/backend-v1.0-GCN/remediation-work-packages",
            Self::Decision => "/api/v1/releases/backend-v1.0-GCN/certification/decision",
        }
    }

    /// Arguments with a title of their own.
    fn arguments(self, title: &str) -> Value {
        match self {
            Self::Item => json!({"title": title, "type": "task", "parent": "WI-1001", "owner": "ada"}),
            Self::Package => {
                let mut package: Value =
                    serde_json::from_str(include_str!("../../config/examples/remediation.json")).unwrap();
                package["title"] = json!(title);
                package
            }
            Self::Decision => json!({"release": "backend-v1.0-GCN", "decision": "reject", "reason": title}),
        }
    }
}

/// One write as its client knows it.
#[derive(Debug, Clone)]
struct Deed {
    kind: Kind,
    title: String,
    key: Option<String>,
    approval: Option<String>,
}

impl Deed {
    /// A write under a key.
    fn new(kind: Kind, key: &str) -> Self {
        Self { kind, title: format!("Deed {key}"), key: Some(key.to_owned()), approval: None }
    }

    /// The key in the ledger: the client's, else the approval's id.
    fn known_as(&self) -> &str {
        self.key.as_deref().or(self.approval.as_deref()).unwrap_or_default()
    }

    /// Asks once.
    fn ask(&self, client: &Client, mcp: &str) -> Heard {
        let arguments = self.kind.arguments(&self.title);
        client.call(mcp, self.kind.tool(), &arguments, &self.meta())
    }

    /// What steers the call.
    fn meta(&self) -> Value {
        let said = [("com.loopiq/idempotencyKey", &self.key), ("com.loopiq/approvalId", &self.approval)];
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))).collect()
    }
}

/// A number from the environment, for whoever wants a test to try harder.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?.into_string().unwrap();
    Some(text.parse().unwrap_or_else(|cause| panic!("{name} is `{text}`: {cause}")))
}

/// LoopIQ, what a gateway needs, and somebody who approves.
struct Site {
    sandbox: Sandbox,
    home: Home,
    /// A second replica's.
    other: Option<Home>,
    client: Client,
    ledger: Books,
}

impl Site {
    fn new() -> Self {
        let sandbox = Sandbox::start();
        let home = Home::new(&sandbox.url);
        let (client, ledger) = (Client::new(&home), Books::File(home.path("ledger.db")));
        Self { sandbox, home, other: None, client, ledger }
    }

    /// LoopIQ has no more than this for a write, and so whoever takes over a dead gateway's need not wait long.
    fn in_time(self, seconds: u64) -> Self {
        let built_in = crate::harness::of_repository("config/catalog.yaml");
        let mut catalog = std::fs::read_to_string(&built_in).unwrap();
        for (from, to) in TIMEOUTS {
            assert!(catalog.contains(from), "`{from}` is not in the catalog");
            catalog = catalog.replace(from, &format!("{to}    timeout: {seconds}s\n"));
        }
        for home in self.homes() {
            home.write("catalog.yaml", &catalog);
            home.settings(|text| text.replace(&crate::harness::shown(&built_in), "catalog.yaml"));
        }
        self
    }

    /// Two replicas that share a PostgreSQL.
    fn twins(cluster: &Arc<Cluster>) -> Self {
        let site = Self::new();
        site.home.write("ledger.url", &cluster.url());
        site.home.settings(|text| text.replace(LEDGER, "ledger: {kind: postgres, url_file: ledger.url}"));
        let other = site.home.replica();
        other.settings(|text| text.replace("audit: {dir: audit", "audit: {writer: gateway-2, dir: audit"));
        Self { other: Some(other), ledger: Books::Shared(Arc::clone(cluster)), ..site }
    }

    /// Both replicas.
    fn replicas(&self) -> [Gateway; 2] {
        [Gateway::serve(&self.home), Gateway::serve(self.other.as_ref().unwrap())]
    }

    fn homes(&self) -> impl Iterator<Item = &Home> {
        std::iter::once(&self.home).chain(&self.other)
    }

    /// LoopIQ keeps the next writes of a kind waiting for longer than anybody waits, before it carries
    /// them out or after.
    fn holds(&self, kind: Kind, when: &str, times: u32) {
        self.sandbox.fault(&json!({"method": "POST", "path": kind.path(), "exact": true, "dry_run": false,
            "kind": "delay", "ms": 600_000, "when": when, "times": times}));
    }

    /// The write with the approval that it needs, if it needs one.
    fn approved(&self, gateway: &Gateway, mut deed: Deed) -> Deed {
        if deed.kind != Kind::Item {
            let id = self.client.asks_for_approval(|| deed.ask(&self.client, &gateway.mcp));
            self.client.approves(|| gateway.admin.clone(), &id);
            deed.approval = Some(id);
        }
        deed
    }

    /// Every write in the ledger, by its key, with its state.
    fn states(&self) -> BTreeMap<String, String> {
        self.ledger.states()
    }

    /// Waits until no outcome is open any more, and each of these writes is known to have been made.
    fn all_known(&self, told: &[(Deed, Value)]) {
        until("every outcome is known", || {
            let states = self.states();
            let open = |state: &String| !matches!(state.as_str(), "executed" | "failed");
            let made = |key: &str| states.get(key).is_some_and(|state| state == "executed");
            (!states.values().any(open) && told.iter().all(|(deed, _)| made(deed.known_as()))).then_some(())
        });
    }

    /// Each of these writes has had one effect, and there is no other; each is answered again as it
    /// was first; the journal holds.
    fn check(&self, gateway: &Gateway, told: &[(Deed, Value)]) {
        self.all_known(told);
        let effects = self.sandbox.effects();
        assert_eq!(effects["executions"], told.len(), "{effects:#}");
        let mut executions = BTreeSet::new();
        for (deed, first) in told {
            let id = client::audit(first)["executionId"].as_str().unwrap();
            assert!(executions.insert(id.to_owned()), "`{id}` is the id of two writes");
            assert_eq!(effects["byKey"]["org_gcn"][id], 1, "{deed:?}: {effects:#}");
            let again = self.client.until_known(|| deed.ask(&self.client, &gateway.mcp));
            assert_eq!(client::content(&again), client::content(first), "{deed:?}");
            assert_eq!(client::audit(&again)["replayed"], true, "{deed:?}: {again:#}");
            assert_eq!(client::audit(&again)["executionId"], id, "{deed:?}");
        }
        assert_eq!(self.sandbox.effects()["executions"], told.len(), "asking again did something");
        self.homes().for_each(|home| drop(home.verify().exits(0)));
    }
}

//! The sandbox's promises, over real HTTP on a free port.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use super::Running;
use super::Settings;
use super::Store;
use super::start;

mod reading;
mod writing;
mod faults;
mod document;

const GCN: &str = "org_gcn";
const NORD: &str = "org_nordbank";
const BACKEND: &str = "/api/v1/releases/backend-v1.0-GCN";

/// A running sandbox and a client.
struct Lab {
    running: Running,
    client: reqwest::Client,
}

/// What came back.
#[derive(Debug, Clone)]
struct Seen {
    status: u16,
    etag: Option<String>,
    replayed: bool,
    bytes: Vec<u8>,
    body: Value,
}

impl Seen {
    fn text(&self, pointer: &str) -> String {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer} in {}", self.body))
            .into()
    }

    fn items(&self) -> Vec<Value> {
        self.body["items"].as_array().unwrap_or_else(|| panic!("no items in {}", self.body)).clone()
    }
}

impl Lab {
    async fn open() -> Self {
        Self::with(Store::Memory, None).await
    }

    async fn with(store: Store, trust: Option<Value>) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let running = start(Settings { listen, store, trust }).await.unwrap();
        // One connection per request, so that a reset never meets a pooled connection.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap();
        Self { running, client }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.addr())
    }

    async fn attempt(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Seen, reqwest::Error> {
        let mut request = self.client.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, etag, replayed) =
            (response.status().as_u16(), header("etag"), header("idempotent-replayed").as_deref() == Some("true"));
        let bytes = response.bytes().await?.to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Seen { status, etag, replayed, bytes, body })
    }

    async fn get(&self, tenant: &str, path: &str) -> Seen {
        self.attempt(Method::GET, path, &[("x-loopiq-tenant", tenant)], None).await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, extra: &[(&str, &str)], body: &Value) -> Seen {
        self.try_send(method, path, extra, body).await.unwrap()
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        extra: &[(&str, &str)],
        body: &Value,
    ) -> Result<Seen, reqwest::Error> {
        let mut headers = vec![("x-loopiq-user", "ada")];
        if !extra.iter().any(|(name, _)| *name == "x-loopiq-tenant") {
            headers.push(("x-loopiq-tenant", GCN));
        }
        headers.extend_from_slice(extra);
        self.attempt(method, path, &headers, Some(body)).await
    }

    async fn post(&self, path: &str, extra: &[(&str, &str)], body: &Value) -> Seen {
        self.send(Method::POST, path, extra, body).await
    }

    async fn fault(&self, fault: Value) {
        let seen = self.attempt(Method::POST, "/_sandbox/faults", &[], Some(&fault)).await.unwrap();
        assert_eq!(seen.status, 201, "{}", seen.body);
    }

    async fn effects(&self) -> Value {
        self.attempt(Method::GET, "/_sandbox/effects", &[], None).await.unwrap().body
    }

    async fn meddle(&self, tenant: &str, kind: &str, id: &str, set: Value) {
        let change = json!({"tenant": tenant, "kind": kind, "id": id, "set": set});
        let seen = self.attempt(Method::POST, "/_sandbox/records", &[], Some(&change)).await.unwrap();
        assert_eq!(seen.status, 200, "{}", seen.body);
    }
}

/// A good work package for the backend release.
fn package() -> Value {
    json!({
        "certification": "cert-backend-v1.0-GCN",
        "title": "Clear the way for backend 1.0",
        "owner": "ada",
        "parentStory": {"title": "Remediate backend 1.0", "description": "Patch, review, log sample."},
        "tasks": [
            {"title": "Patch the codec", "owner": "ben", "blocker": "blk-1001", "evidence": "ev-1005"},
            {"title": "Hand in the log sample", "blocker": "blk-1002"},
        ],
        "evidence": ["ev-1005", "ev-1006"],
        "blockers": ["blk-1001", "blk-1002"],
        "evidenceAsOf": "2026-01-15T09:00:00Z",
    })
}

fn packages() -> String {
    format!("{BACKEND}/remediation-work-packages")
}

/// A good work item.
fn item() -> Value {
    json!({"title": "Rotate the keys", "type": "task", "parent": "WI-1001", "owner": "ben"})
}

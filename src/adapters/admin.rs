//! Operators' door: liveness, readiness with details, metrics.
//!
//! Promises: `/readyz` is 200 exactly while calls can be decided and recorded, and its details say
//! in plain words what is stale or failing. Never shows a token, a key, an argument or a payload.
//! Called by `app`; asks through [`Vitals`] and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

/// What operators may know; implemented by `app`, which sees every part.
pub trait Vitals: Send + Sync {
    /// Whether calls can be decided and recorded, with details.
    fn readiness(&self) -> Readiness;

    /// Metrics in Prometheus text format.
    fn metrics(&self) -> String;
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether this instance should get traffic.
    pub ready: bool,
    /// What is wrong or stale, in plain words; may be non-empty while ready.
    pub findings: Vec<String>,
    /// The rules in force.
    pub rules: Option<RulesView>,
    /// Keys of each issuer.
    pub keys: Vec<serde_json::Value>,
    /// The journal: `ok`, or what is wrong.
    pub journal: String,
}

/// The rules in force.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RulesView {
    /// Short name of these rules, as answers and records carry it.
    pub revision: String,
    /// When they were loaded, RFC 3339.
    pub loaded_at: String,
    /// Digest of the policy files.
    pub bundle: String,
    /// Digest of the policy data.
    pub data: String,
    /// Digest of the catalog.
    pub catalog: String,
    /// `rvm` or `interpreter`.
    pub engine: String,
    /// Tools in the catalog.
    pub tools: usize,
}

/// A listener that is bound but does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Binds the listener.
pub async fn bind(addr: SocketAddr) -> std::io::Result<Bound> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}

impl Bound {
    /// Answers until its task is ended.
    pub async fn serve(self, vitals: Arc<dyn Vitals>) -> std::io::Result<()> {
        axum::serve(self.listener, router(vitals)).await
    }
}

fn router(vitals: Arc<dyn Vitals>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; see /healthz, /readyz and /metrics\n"))
        .with_state(vitals)
}

async fn readyz(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    let readiness = vitals.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], vitals.metrics()).into_response()
}

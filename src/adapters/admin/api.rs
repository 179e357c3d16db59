//! `/api/v1`: approvals, writes, policy and the journal for people and their programs, in JSON.
//!
//! Promises: translates between HTTP and `pep::desk`, and holds no rule of its own; every answer is
//! JSON, every no has a code, what failed and what to do next; a body is bounded, strict JSON and of
//! one content type; a page of a foreign origin gets nothing; no answer is kept by anyone on the way.
//! `openapi.json` beside it says all of it, and a test holds the two together. Called by `admin`.

mod ask;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::MethodFilter;
use axum::routing::any;
use axum::routing::on;
use serde_json::Value;
use serde_json::json;

use self::ask::Ask;
use crate::domain::approval::Verdict;
use crate::domain::identity::metadata;
use crate::domain::mcp::receive::DoorRules;
use crate::pep::desk::Declined;
use crate::pep::desk::Desk;
use crate::pep::desk::Kind;
use crate::pep::desk::Visit;

/// The document that describes all of this, OpenAPI 3.1.
pub const DOCUMENT: &str = include_str!("api/openapi.json");

/// Bytes of a body; the longest one holds four thousand characters of evidence.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that carries a replay report; read only for somebody who is known.
const REPORT_BYTES_MAX: usize = 8 << 20;
/// Seconds after which it is worth asking again.
const RETRY_AFTER: &str = "5";

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// Where everything is done.
    pub desk: Arc<Desk>,
    /// Origins that browsers may call from.
    pub rules: DoorRules,
    /// The `resource` of RFC 9728, for challenges.
    pub resource: String,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    ListApprovals,
    ShowApproval,
    Vote(Verdict),
    Revoke,
    ListWrites,
    ShowWrite,
    Resolve,
    ListRecords,
    ShowRecords,
    ShowPolicy,
    ActivatePolicy,
    RollBackPolicy,
    Document,
}

impl Operation {
    /// Its name in records and metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::ListApprovals => "approvals.list",
            Self::ShowApproval => "approvals.show",
            Self::Vote(Verdict::Approve) => "approvals.approve",
            Self::Vote(Verdict::Reject) => "approvals.reject",
            Self::Revoke => "approvals.revoke",
            Self::ListWrites => "writes.list",
            Self::ShowWrite => "writes.show",
            Self::Resolve => "writes.resolve",
            Self::ListRecords => "audit.list",
            Self::ShowRecords => "audit.show",
            Self::ShowPolicy => "policy.show",
            Self::ActivatePolicy => "policy.activate",
            Self::RollBackPolicy => "policy.rollback",
            Self::Document => "openapi",
        }
    }
}

/// Every route: its method, its path and what it does. An audit reference has slashes in it.
const ROUTES: [(MethodFilter, &str, Operation); 14] = [
    (MethodFilter::GET, "/api/v1/approvals", Operation::ListApprovals),
    (MethodFilter::GET, "/api/v1/approvals/{id}", Operation::ShowApproval),
    (MethodFilter::POST, "/api/v1/approvals/{id}/approve", Operation::Vote(Verdict::Approve)),
    (MethodFilter::POST, "/api/v1/approvals/{id}/reject", Operation::Vote(Verdict::Reject)),
    (MethodFilter::POST, "/api/v1/approvals/{id}/revoke", Operation::Revoke),
    (MethodFilter::GET, "/api/v1/writes", Operation::ListWrites),
    (MethodFilter::GET, "/api/v1/writes/{id}", Operation::ShowWrite),
    (MethodFilter::POST, "/api/v1/writes/{id}/resolve", Operation::Resolve),
    (MethodFilter::GET, "/api/v1/audit", Operation::ListRecords),
    (MethodFilter::GET, "/api/v1/audit/{*id}", Operation::ShowRecords),
    (MethodFilter::GET, "/api/v1/policy", Operation::ShowPolicy),
    (MethodFilter::POST, "/api/v1/policy/activate", Operation::ActivatePolicy),
    (MethodFilter::POST, "/api/v1/policy/rollback", Operation::RollBackPolicy),
    (MethodFilter::GET, "/api/v1/openapi.json", Operation::Document),
];

/// The routes of the API.
pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new()
        .route("/api", any(async || nowhere()))
        .route("/api/", any(async || nowhere()))
        .route("/api/{*rest}", any(async || nowhere()));
    for (method, path, operation) in ROUTES {
        let handler = move |State(api): State<Arc<Api>>,
                            Extension(peer): Extension<SocketAddr>,
                            path: Result<Path<HashMap<String, String>>, PathRejection>,
                            request: Request| async move {
            let id = path.ok().and_then(|Path(mut variables)| variables.remove("id")).unwrap_or_default();
            let (head, body) = request.into_parts();
            api.respond(operation, &id, &head, body, peer).await
        };
        let allowed = if method == MethodFilter::GET { "GET, HEAD" } else { "POST" };
        router = router.route(path, on(method, handler).fallback(async move || wrong_method(allowed)));
    }
    router.with_state(Arc::new(api))
}

fn nowhere() -> Response {
    let no = Declined::of(Kind::Missing, "no_such_route", "nothing is here", "see /api/v1/openapi.json");
    refused(&no, StatusCode::NOT_FOUND)
}

fn wrong_method(allowed: &'static str) -> Response {
    let no = Declined::request("that method is not served here", format!("use {allowed}"));
    let mut response = refused(&no, StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

impl Api {
    async fn respond(&self, operation: Operation, id: &str, head: &Parts, body: Body, peer: SocketAddr) -> Response {
        if let Some(no) = self.foreign(&head.headers) {
            return refused(&no, StatusCode::FORBIDDEN);
        }
        if operation == Operation::Document {
            return with_headers(([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response());
        }
        let visit = visit(&head.headers, peer);
        // WHY: what strangers may make the gateway hold in memory is small.
        let large = operation == Operation::ActivatePolicy && self.desk.recognises(&visit).await;
        let bytes_max = if large { REPORT_BYTES_MAX } else { BODY_BYTES_MAX };
        let outcome = match asked(operation, head, body, bytes_max).await {
            Ok(ask) => self.done(operation, id, &visit, ask).await,
            Err(no) => Err(self.desk.misread(&visit, operation.name(), no).await),
        };
        match outcome {
            Ok(answer) => json_answer(StatusCode::OK, &answer),
            Err(no) => self.declined(&no),
        }
    }

    async fn done(&self, operation: Operation, id: &str, visit: &Visit, ask: Ask) -> Result<Value, Declined> {
        let desk = &self.desk;
        match (operation, ask) {
            (Operation::ListApprovals, Ask::Approvals(query)) => desk.list_approvals(visit, query).await,
            (Operation::Vote(verdict), Ask::Cast(cast)) => desk.vote(visit, id, verdict, cast).await,
            (Operation::Revoke, Ask::Cast(cast)) => desk.revoke(visit, id, cast).await,
            (Operation::ListWrites, Ask::Writes(query)) => desk.list_writes(visit, query).await,
            (Operation::Resolve, Ask::Said(said)) => desk.resolve(visit, id, said).await,
            (Operation::ListRecords, Ask::Records(query)) => desk.list_records(visit, query).await,
            (Operation::ActivatePolicy, Ask::Activation(order)) => desk.activate_policy(visit, order).await,
            (Operation::RollBackPolicy, Ask::Back(back)) => desk.roll_back_policy(visit, back).await,
            (Operation::ShowPolicy, _) => desk.show_policy(visit).await,
            (Operation::ShowRecords, _) => desk.show_records(visit, id).await,
            (Operation::ShowWrite, _) => desk.show_write(visit, id).await,
            // INVARIANT: `asked` reads for each operation what it takes; what is left is one approval.
            _ => desk.show_approval(visit, id).await,
        }
    }

    /// A page of another origin: it has no business here, whatever token it got hold of.
    fn foreign(&self, headers: &HeaderMap) -> Option<Declined> {
        let ours = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| self.rules.allows_origin(origin));
        let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| !ours(origin));
        foreign.then(|| {
            let message = "pages of that origin may not call this server";
            Declined::of(Kind::Forbidden, "origin_forbidden", message, "call it from a program, or from its own pages")
        })
    }

    fn declined(&self, no: &Declined) -> Response {
        let status = match (no.kind, no.code) {
            (_, ask::TOO_LARGE) => StatusCode::PAYLOAD_TOO_LARGE,
            (_, ask::CONTENT_TYPE) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            (Kind::Stranger, _) => StatusCode::UNAUTHORIZED,
            (Kind::Request, _) => StatusCode::BAD_REQUEST,
            (Kind::Forbidden, _) => StatusCode::FORBIDDEN,
            (Kind::Missing, _) => StatusCode::NOT_FOUND,
            (Kind::Conflict, _) => StatusCode::CONFLICT,
            (Kind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = refused(no, status);
        if let Some(challenge) = &no.challenge {
            let value = metadata::www_authenticate(challenge, &metadata::document_url(&self.resource));
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
            }
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// What is asked for, read strictly.
async fn asked(operation: Operation, head: &Parts, body: Body, bytes_max: usize) -> Result<Ask, Declined> {
    let query = head.uri.query().unwrap_or_default();
    match operation {
        Operation::ListApprovals => ask::approvals(query),
        Operation::ListWrites => ask::writes(query),
        Operation::ListRecords => ask::records(query),
        Operation::ShowApproval
        | Operation::ShowWrite
        | Operation::ShowRecords
        | Operation::ShowPolicy
        | Operation::Document => ask::nothing(query),
        Operation::Vote(_)
        | Operation::Revoke
        | Operation::Resolve
        | Operation::ActivatePolicy
        | Operation::RollBackPolicy => {
            ask::nothing(query)?;
            ask::content_type(&head.headers)?;
            let bytes = axum::body::to_bytes(body, bytes_max).await.map_err(|_| ask::too_large(bytes_max))?;
            match operation {
                Operation::Resolve => ask::said(&bytes),
                Operation::ActivatePolicy => ask::activation(&bytes, bytes_max),
                Operation::RollBackPolicy => ask::back(&bytes),
                _ => ask::cast(&bytes),
            }
        }
    }
}

/// Who comes. A header that is no text proves nothing and names nobody.
fn visit(headers: &HeaderMap, peer: SocketAddr) -> Visit {
    let all = |name: &str| {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or_default().to_owned()).collect()
    };
    Visit { authorization: all("authorization"), tenant: all("x-loopiq-tenant"), peer: Some(peer) }
}

fn refused(no: &Declined, status: StatusCode) -> Response {
    json_answer(status, &json!({"error": {"code": no.code, "message": no.message, "next": no.next}}))
}

fn json_answer(status: StatusCode, answer: &Value) -> Response {
    with_headers((status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

/// What every answer says besides: nobody on the way keeps it, and it is nothing but what it says.
fn with_headers(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

//! From an HTTP request to an order, and from an answer to an HTTP response.
//!
//! Promises: nothing reaches the store that its schema does not allow; every refusal is
//! `{"error":{"code","message"}}`; a fault strikes exactly where its kind says. Never touches a
//! record itself. Served by `sandbox::wire`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::RawPathParams;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::RawPathParamsRejection;
use axum::middleware::Next;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::MethodFilter;
use axum::routing::get;
use axum::routing::on;
use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use http::request::Parts;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::SandboxError;
use super::Store;
use super::books::Caller;
use super::controls;
use super::deform::deform;
use super::faults::Fault;
use super::faults::Moment;
use super::faults::Panel;
use super::faults::Wrong;
use super::ledger::Answer;
use super::ledger::Order;
use super::openapi;
use super::operation::Ask;
use super::operation::Method;
use super::operation::Operation;
use super::operation::Shape;
use super::operation::Values;
use super::problem::Problem;
use super::store::Vault;
use super::table;
use super::trust::Trust;
use super::wire::Cut;

/// Most bytes of a request body.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest header or query value that is taken over.
const VALUE_CHARS_MAX: usize = 256;
/// Most schema faults named in one refusal.
const FAULTS_MAX: usize = 10;

/// Everything that a request needs.
#[derive(Debug)]
pub(super) struct Sandbox {
    vault: Vault,
    schemas: BTreeMap<&'static str, jsonschema::Validator>,
    trust: ArcSwapOption<Trust>,
    panel: Panel,
}

impl Sandbox {
    /// Opens the store and compiles the schemas.
    pub(super) fn open(store: &Store, trust: Option<&Value>) -> Result<Self, SandboxError> {
        let mut schemas = BTreeMap::new();
        for operation in table::operations() {
            let Some(body) = operation.body else { continue };
            let schema = jsonschema::draft202012::options()
                .should_validate_formats(true)
                .build(&body())
                .map_err(|error| SandboxError::Schema { operation: operation.tool, detail: error.to_string() })?;
            schemas.insert(operation.tool, schema);
        }
        let trust = trust.map(Trust::from_jwks).transpose()?.map(Arc::new);
        let vault = Vault::open(store, now())?;
        Ok(Self { vault, schemas, trust: ArcSwapOption::new(trust), panel: Panel::default() })
    }

    /// Believes only callers that these keys vouch for.
    pub(super) fn trust(&self, jwks: &Value) -> Result<(), SandboxError> {
        self.trust.store(Some(Arc::new(Trust::from_jwks(jwks)?)));
        Ok(())
    }

    /// The store.
    pub(super) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Faults and requests seen.
    pub(super) fn panel(&self) -> &Panel {
        &self.panel
    }
}

/// The sandbox's clock; everything inside takes the time as a value.
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// Every route.
pub(super) fn router(sandbox: Arc<Sandbox>) -> Router {
    let mut router = controls::router()
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/openapi.json", get(async || Json(openapi::document())));
    for operation in table::operations() {
        let filter = match operation.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Patch => MethodFilter::PATCH,
            Method::Put => MethodFilter::PUT,
        };
        let handler =
            move |State(sandbox): State<Arc<Sandbox>>,
                  variables: Result<RawPathParams, RawPathParamsRejection>,
                  request: Request| async move { serve(&sandbox, operation, variables, request).await };
        router = router.route(operation.path, on(filter, handler));
    }
    router
        .fallback(async || refused(&Problem::new(404, "unknown_route", "no such route; see `/openapi.json`")))
        .method_not_allowed_fallback(async || {
            refused(&Problem::new(405, "method_not_allowed", "the route has no such method; see `/openapi.json`"))
        })
        .layer(from_fn_with_state(Arc::clone(&sandbox), witness))
        .with_state(sandbox)
}

/// Writes a refusal.
pub(super) fn refused(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem.body())).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Marks a request whose effect must not be kept.
#[derive(Debug, Clone, Copy)]
struct Undone;

/// Remembers the request and lets faults strike.
async fn witness(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/_sandbox/") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return refused(&Problem::new(413, "body_too_large", format!("a body has at most {BODY_BYTES_MAX} bytes")));
    };
    sandbox.panel.remember(parts.method.as_str(), &parts.uri, &parts.headers, &body, now());
    let fault = sandbox.panel.strike(parts.method.as_str(), &parts.uri);
    let request = Request::from_parts(parts, Body::from(body));
    match fault {
        Some(fault) => struck(fault, request, next).await,
        None => next.run(request).await,
    }
}

async fn struck(fault: Fault, mut request: Request, next: Next) -> Response {
    let pause = Duration::from_millis(fault.ms);
    match fault.kind {
        Wrong::Delay if fault.when == Moment::Before => {
            tokio::time::sleep(pause).await;
            next.run(request).await
        }
        Wrong::Delay => {
            let response = next.run(request).await;
            tokio::time::sleep(pause).await;
            response
        }
        Wrong::Status => refused(&Problem::new(fault.status, "fault", "a test asked for this answer")),
        Wrong::ResetBeforeCommit => {
            request.extensions_mut().insert(Undone);
            reset(next.run(request).await)
        }
        Wrong::ResetAfterCommit => reset(next.run(request).await),
        Wrong::ForeignRecord | Wrong::Oversized | Wrong::BadJson | Wrong::Truncated => {
            let tenant = text_of(request.headers(), "x-loopiq-tenant").unwrap_or_default();
            deform(next.run(request).await, &fault, &tenant).await
        }
    }
}

fn reset(mut response: Response) -> Response {
    response.extensions_mut().insert(Cut);
    response
}

async fn serve(
    sandbox: &Sandbox,
    operation: &'static Operation,
    variables: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let keep = parts.extensions.get::<Undone>().is_none();
    let order = match admit(sandbox, operation, variables, &parts, body).await {
        Ok(order) => order,
        Err(problem) => return refused(&problem),
    };
    match sandbox.vault.execute(order, keep).await {
        Ok(answer) => answered(answer),
        Err(problem) => refused(&problem),
    }
}

fn answered(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(etag) = answer.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    if answer.replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// Authenticates and validates.
async fn admit(
    sandbox: &Sandbox,
    operation: &'static Operation,
    variables: Result<RawPathParams, RawPathParamsRejection>,
    parts: &Parts,
    body: Body,
) -> Result<Order, Problem> {
    let caller = caller(sandbox, operation, &parts.headers)?;
    let variables = variables.map_err(|_| Problem::new(400, "invalid_path", "the path is not valid UTF-8"))?;
    let path = variables.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut query = query(operation, parts)?;
    let dry_run = query.remove("dryRun").is_some_and(|flag| flag == "true");
    let key = if operation.writes() { text_of(&parts.headers, "idempotency-key") } else { None };
    let body = match sandbox.schemas.get(operation.tool) {
        Some(schema) => checked(schema, body).await?,
        None => json!({}),
    };
    let if_match = text_of(&parts.headers, "if-match");
    if parts.headers.contains_key("idempotency-key") && operation.writes() && key.is_none() {
        let words = format!("`Idempotency-Key` must be 1 to {VALUE_CHARS_MAX} visible ASCII characters");
        return Err(Problem::new(400, "invalid_idempotency_key", words));
    }
    Ok(Order { operation, ask: Ask { path, query, body }, caller, key, if_match, dry_run })
}

fn caller(sandbox: &Sandbox, operation: &Operation, headers: &HeaderMap) -> Result<Caller, Problem> {
    let (tenant, user) = (text_of(headers, "x-loopiq-tenant"), text_of(headers, "x-loopiq-user"));
    if let Some(trust) = sandbox.trust.load().as_ref() {
        let token = text_of(headers, "authorization");
        let token = token.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        let (user, tenant) = (user.as_deref().unwrap_or_default(), tenant.as_deref().unwrap_or_default());
        if !token.is_some_and(|token| trust.believes(token, user, tenant)) {
            let words = "a token is needed that names audience `loopiq` and the user and tenant of the headers";
            return Err(Problem::new(401, "untrusted", words));
        }
    }
    let tenant =
        tenant.ok_or_else(|| Problem::new(400, "tenant_required", "`X-LoopIQ-Tenant` must name one tenant"))?;
    let user = match user {
        Some(user) => user,
        None if operation.writes() => {
            return Err(Problem::new(400, "user_required", "`X-LoopIQ-User` must name who writes"));
        }
        None => "anonymous".to_owned(),
    };
    Ok(Caller { tenant, user, now: now() })
}

/// A header that comes once, is short and visible; or none.
fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    // A token may be long, everything else is a name.
    let bounded = name == "authorization" || value.len() <= VALUE_CHARS_MAX;
    (values.next().is_none() && !value.is_empty() && bounded).then(|| value.to_owned())
}

fn query(operation: &Operation, parts: &Parts) -> Result<BTreeMap<String, String>, Problem> {
    let invalid = |words: String| Problem::new(400, "invalid_query", words);
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|_| invalid("the query cannot be read".to_owned()))?;
    let mut query = BTreeMap::new();
    for (name, value) in pairs.0 {
        check_parameter(operation, &name, &value).map_err(invalid)?;
        if query.insert(name.clone(), value).is_some() {
            return Err(invalid(format!("`{name}` comes more than once")));
        }
    }
    Ok(query)
}

fn check_parameter(operation: &Operation, name: &str, value: &str) -> Result<(), String> {
    let paged = matches!(operation.answer, Shape::Page(_));
    match name {
        "limit" if paged => match value.parse::<u8>() {
            Ok(1..=100) => Ok(()),
            Ok(_) | Err(_) => Err("`limit` must be 1 to 100".to_owned()),
        },
        "cursor" if paged => Ok(()),
        "dryRun" if operation.writes() => match value {
            "true" | "false" => Ok(()),
            _ => Err("`dryRun` must be `true` or `false`".to_owned()),
        },
        _ => {
            let known = operation.query.iter().find(|parameter| parameter.name == name);
            let parameter = known.ok_or_else(|| format!("`{name}` is no parameter of this route"))?;
            match parameter.values {
                Values::Text if value.len() <= VALUE_CHARS_MAX => Ok(()),
                Values::Text => Err(format!("`{name}` is longer than {VALUE_CHARS_MAX} characters")),
                Values::Of(values) if values.contains(&value) => Ok(()),
                Values::Of(values) => Err(format!("`{name}` must be one of {}", values.join(", "))),
                Values::Time if value.parse::<Timestamp>().is_ok() => Ok(()),
                Values::Time => Err(format!("`{name}` must be an RFC 3339 timestamp")),
            }
        }
    }
}

async fn checked(schema: &jsonschema::Validator, body: Body) -> Result<Value, Problem> {
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let value = if bytes.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(400, "invalid_json", format!("the body is not JSON: {error}")))?
    };
    let faults: Vec<String> = schema
        .iter_errors(&value)
        .take(FAULTS_MAX)
        .map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path => format!("`{path}`: {error}"),
        })
        .collect();
    if faults.is_empty() { Ok(value) } else { Err(Problem::invalid("invalid_body", faults.join("; "))) }
}

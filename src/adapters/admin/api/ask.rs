//! From a query or a body to what the desk takes.
//!
//! Promises: strict: a name that is not known, one that stands twice and a value of the wrong form
//! are refused and named, never passed over, for a filter that is not applied shows too much and a
//! member that is not read was meant to say something. Never decides who may.

use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header;
use serde_json::Map;
use serde_json::Value;

use crate::domain::approval;
use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::idempotency;
use crate::domain::rollout::canary::Share;
use crate::pep::desk::ApprovalQuery;
use crate::pep::desk::Back;
use crate::pep::desk::Cast;
use crate::pep::desk::Declined;
use crate::pep::desk::Kind;
use crate::pep::desk::Place;
use crate::pep::desk::RecordQuery;
use crate::pep::desk::Said;
use crate::pep::desk::WriteQuery;
use crate::pep::rollout::Order;

/// Code of a body that is too long.
pub(super) const TOO_LARGE: &str = "body_too_large";
/// Code of a body that is no JSON by its own account.
pub(super) const CONTENT_TYPE: &str = "content_type";

/// Things per page when nobody says how many.
const PAGE: usize = 50;
const SEE: &str = "see /api/v1/openapi.json";

/// What is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Nothing,
    Approvals(ApprovalQuery),
    Writes(WriteQuery),
    Records(RecordQuery),
    Cast(Cast),
    Said(Said),
    Activation(Order),
    Back(Back),
}

pub(super) fn nothing(query: &str) -> Result<Ask, Declined> {
    Filters::read(query, &[]).map(|_| Ask::Nothing)
}

pub(super) fn approvals(query: &str) -> Result<Ask, Declined> {
    let filters = Filters::read(query, &["state", "requester", "limit", "cursor"])?;
    Ok(Ask::Approvals(ApprovalQuery {
        state: filters.one("state", "pending, approved, rejected, executed or failed", approval::State::named)?,
        requester: filters.text("requester"),
        limit: filters.limit()?,
        after: filters.place()?,
    }))
}

pub(super) fn writes(query: &str) -> Result<Ask, Declined> {
    let filters = Filters::read(query, &["state", "key", "limit", "cursor"])?;
    Ok(Ask::Writes(WriteQuery {
        state: filters.one("state", "reserved, sent, executed, failed or unknown", idempotency::State::named)?,
        key: filters.text("key"),
        limit: filters.limit()?,
        after: filters.place()?,
    }))
}

pub(super) fn records(query: &str) -> Result<Ask, Declined> {
    let filters = Filters::read(query, &["user", "tool", "stage", "since", "until", "limit", "cursor"])?;
    let moment = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    Ok(Ask::Records(RecordQuery {
        user: filters.text("user"),
        tool: filters.text("tool"),
        stage: filters.text("stage"),
        since_ms: filters.one("since", "a moment, such as 2026-11-20T18:00:00Z", moment)?,
        until_ms: filters.one("until", "a moment, such as 2026-11-20T18:00:00Z", moment)?,
        before: filters.one("cursor", "the `next` of the page before", RecordQuery::cursor)?,
        limit: filters.limit()?,
    }))
}

/// The body of a vote.
pub(super) fn cast(body: &[u8]) -> Result<Ask, Declined> {
    let mut members = members(body, &["digest", "reason"])?;
    let digest = text(&mut members, "digest")?;
    Ok(Ask::Cast(Cast { digest, reason: text(&mut members, "reason")?.unwrap_or_default() }))
}

/// The body of an opinion about a write.
pub(super) fn said(body: &[u8]) -> Result<Ask, Declined> {
    let mut members = members(body, &["outcome", "evidence", "recordIds"])?;
    let happened = match text(&mut members, "outcome")?.as_deref() {
        Some("executed") => true,
        Some("failed") => false,
        _ => return Err(Declined::request("`outcome` is `executed` or `failed`", "say which of them")),
    };
    let record_ids = match members.remove("recordIds") {
        None => Vec::new(),
        Some(ids) => serde_json::from_value(ids)
            .map_err(|_| Declined::request("`recordIds` is no list of strings", "send a list of strings"))?,
    };
    Ok(Ask::Said(Said { happened, evidence: text(&mut members, "evidence")?.unwrap_or_default(), record_ids }))
}

/// The body of an activation. What is in the report is its reader's to say.
pub(super) fn activation(body: &[u8], bytes_max: usize) -> Result<Ask, Declined> {
    let limits = Limits { bytes_max, depth_max: 8, members_max: 10_000 };
    let mut members = members_within(body, &["revision", "report", "digest", "reason", "canary"], &limits)?;
    let revision = text(&mut members, "revision")?;
    let revision =
        revision.ok_or_else(|| Declined::request("`revision` is missing", "name the candidate that you mean"))?;
    let report = match members.remove("report") {
        None => None,
        Some(report @ Value::Object(_)) => Some(report.to_string().into_bytes()),
        Some(_) => return Err(Declined::request("`report` is no JSON object", "send the signed report as it is")),
    };
    let canary = match members.remove("canary") {
        None => None,
        Some(share) => Some(self::share(share)?),
    };
    let digest = text(&mut members, "digest")?;
    let reason = text(&mut members, "reason")?.unwrap_or_default();
    Ok(Ask::Activation(Order { revision, report, digest, reason, canary }))
}

fn share(share: Value) -> Result<Share, Declined> {
    let no = |what: &str| Declined::request(format!("`canary`: {what}"), SEE);
    let Value::Object(mut members) = share else { return Err(no("it is no object")) };
    let percent = match members.remove("percent") {
        None => 0,
        Some(percent) => percent
            .as_u64()
            .and_then(|percent| u8::try_from(percent).ok())
            .ok_or_else(|| no("`percent` is a number from 1 to 100"))?,
    };
    let tenants = match members.remove("tenants") {
        None => Vec::new(),
        Some(tenants) => serde_json::from_value(tenants).map_err(|_| no("`tenants` is a list of strings"))?,
    };
    match members.keys().next() {
        Some(name) => Err(no(&format!("`{name}` is no member; there are `percent`, `tenants`"))),
        None => Ok(Share { percent, tenants }),
    }
}

/// The body of a rollback.
pub(super) fn back(body: &[u8]) -> Result<Ask, Declined> {
    let mut members = members(body, &["to", "reason"])?;
    let to = text(&mut members, "to")?;
    Ok(Ask::Back(Back { to, reason: text(&mut members, "reason")?.unwrap_or_default() }))
}

pub(super) fn content_type(headers: &HeaderMap) -> Result<(), Declined> {
    let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().map(|value| value.to_str()).collect();
    let json = match types.as_slice() {
        [Ok(only)] => {
            only.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
        }
        _ => false,
    };
    let no = || {
        Declined::of(
            Kind::Request,
            CONTENT_TYPE,
            "the body is not declared as JSON",
            "send `Content-Type: application/json`",
        )
    };
    if json { Ok(()) } else { Err(no()) }
}

pub(super) fn too_large(bytes_max: usize) -> Declined {
    let message = format!("the body is longer than {bytes_max} bytes, or broke off");
    Declined::of(Kind::Request, TOO_LARGE, message, "send less")
}

/// An object with none but these members.
fn members(body: &[u8], known: &[&str]) -> Result<Map<String, Value>, Declined> {
    let limits = Limits { bytes_max: super::BODY_BYTES_MAX, depth_max: 4, members_max: 1_000 };
    members_within(body, known, &limits)
}

fn members_within(body: &[u8], known: &[&str], limits: &Limits) -> Result<Map<String, Value>, Declined> {
    let value = canonical::parse(body, limits).map_err(|fault| Declined::request(format!("the body: {fault}"), SEE))?;
    let Value::Object(members) = value else {
        return Err(Declined::request("the body is no JSON object", SEE));
    };
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let message = format!("`{name}` is no member; there are {}", quoted(known));
            Err(Declined::request(message, "take it out, or correct its name"))
        }
        None => Ok(members),
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Declined> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Declined::request(format!("`{name}` is no string"), "send a string")),
    }
}

/// What stands in a query.
struct Filters(Vec<(String, String)>);

impl Filters {
    fn read(query: &str, known: &[&str]) -> Result<Self, Declined> {
        let uri: Result<Uri, _> = format!("/?{query}").parse();
        let pairs = uri.ok().and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
        let Some(Query(pairs)) = pairs else {
            return Err(Declined::request("the query cannot be read", "encode its names and values"));
        };
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let there = if known.is_empty() {
                    "there is none here".to_owned()
                } else {
                    format!("there are {}", quoted(known))
                };
                return Err(Declined::request(
                    format!("`{name}` is no filter; {there}"),
                    "take it out, or correct its name",
                ));
            }
            if pairs.iter().take(at).any(|(other, _)| other == name) {
                return Err(Declined::request(format!("`{name}` stands twice"), "name it once"));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    fn one<T>(&self, name: &str, form: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Declined> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let no = || Declined::request(format!("`{name}` is {form}"), "correct it, or leave it out");
        read(&text).map(Some).ok_or_else(no)
    }

    fn limit(&self) -> Result<usize, Declined> {
        let read = |text: &str| text.parse().ok().filter(|limit| *limit > 0);
        Ok(self.one("limit", "a number from 1 up", read)?.unwrap_or(PAGE))
    }

    fn place(&self) -> Result<Option<Place>, Declined> {
        self.one("cursor", "the `next` of the page before", |text| text.parse().ok())
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

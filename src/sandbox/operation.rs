//! What one operation of the LoopIQ route API is.
//!
//! Promises: an [`Operation`] says everything about a route once: where it is served, how it is
//! documented, what it validates and what it does. Never does anything itself. Listed in
//! `sandbox::table`; read by `sandbox::door` to serve and by `sandbox::openapi` to document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;

use super::books::Books;
use super::kind::Kind;
use super::problem::Problem;

/// HTTP methods that LoopIQ uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Changes some members.
    Patch,
    /// Replaces.
    Put,
}

impl Method {
    /// Upper case, as on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
        }
    }
}

/// A query parameter beside `limit`, `cursor` and `dryRun`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    /// Its name, which is also the record's member it is compared with (but for `q`, `from`, `to`).
    pub(super) name: &'static str,
    /// For people.
    pub(super) about: &'static str,
    /// What it may be.
    pub(super) values: Values,
}

/// What a query parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    /// Any short text.
    Text,
    /// One of these.
    Of(&'static [&'static str]),
    /// An RFC 3339 timestamp.
    Time,
}

/// The shape of a successful answer, by the name of its schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// One record.
    Record(&'static str),
    /// `{"items": […], "nextCursor"}` of records.
    Page(&'static str),
}

/// What an operation does.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// Lists records of a kind under the query's filters.
    List(Kind),
    /// Shows the record of a kind that the path variable names.
    Show(Kind, &'static str),
    /// Anything else, inside the request's transaction.
    Run(fn(&mut Books<'_>, &Ask) -> Result<Value, Problem>),
}

/// A request after validation.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// Path variables, decoded.
    pub(super) path: BTreeMap<String, String>,
    /// Query parameters, each once.
    pub(super) query: BTreeMap<String, String>,
    /// Body; an empty object when there was none.
    pub(super) body: Value,
}

impl Ask {
    /// The path variable, empty when the template has none of that name.
    pub(super) fn var(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A text member of the body.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }
}

/// One route of the API.
pub(super) struct Operation {
    /// Tool name, such as `loopiq_get_release`; for a route that is no tool, the name it would have.
    pub(super) tool: &'static str,
    /// Whether AI clients should see it as a tool.
    pub(super) is_tool: bool,
    /// Short name for people.
    pub(super) title: &'static str,
    /// What it is for, as a model should read it.
    pub(super) about: &'static str,
    /// HTTP method.
    pub(super) method: Method,
    /// Path template.
    pub(super) path: &'static str,
    /// Family, which is also the OpenAPI tag.
    pub(super) family: &'static str,
    /// What it does to the world.
    pub(super) effect: Effect,
    /// How bad a mistake would be.
    pub(super) impact: Impact,
    /// Query parameters beside the common ones.
    pub(super) query: &'static [Param],
    /// Schema of the JSON body.
    pub(super) body: Option<fn() -> Value>,
    /// Schema of the answer.
    pub(super) answer: Shape,
    /// Status of success.
    pub(super) status: u16,
    /// Whether the answer carries an `ETag`.
    pub(super) versioned: bool,
    /// Tool name of the read whose `ETag` is what `If-Match` is compared with.
    pub(super) etag: Option<&'static str>,
    /// Where else than at the usual place an answer names a tenant.
    pub(super) inner_tenants: &'static [&'static str],
    /// Where else than at the usual place an answer names a record.
    pub(super) inner_ids: &'static [&'static str],
    /// What it does.
    pub(super) act: Act,
}

impl Operation {
    /// Whether it can change records.
    pub(super) fn writes(&self) -> bool {
        self.method != Method::Get
    }

    /// `camelCase` form of the tool name without its prefix.
    pub(super) fn operation_id(&self) -> String {
        let mut id = String::new();
        for word in self.tool.trim_start_matches("loopiq_").split('_') {
            let mut letters = word.chars();
            match letters.next() {
                Some(first) if !id.is_empty() => id.extend(first.to_uppercase()),
                Some(first) => id.push(first),
                None => {}
            }
            id.extend(letters);
        }
        id
    }

    /// Names of the template's variables, in order.
    pub(super) fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// JSON pointers to every tenant that an answer names.
    pub(super) fn tenant_fields(&self) -> Vec<&'static str> {
        let usual = match self.answer {
            Shape::Record(_) => "/tenant",
            Shape::Page(_) => "/items/*/tenant",
        };
        let preview = self.writes().then_some("/preview/creates/*/record/tenant");
        [usual].into_iter().chain(self.inner_tenants.iter().copied()).chain(preview).collect()
    }

    /// JSON pointers to the ids of the records that an answer is about.
    pub(super) fn record_ids(&self) -> Vec<&'static str> {
        let usual = match self.answer {
            Shape::Record(_) => "/id",
            Shape::Page(_) => "/items/*/id",
        };
        [usual].into_iter().chain(self.inner_ids.iter().copied()).collect()
    }
}

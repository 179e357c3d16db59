//! An `OpenAPI` 3.0 or 3.1 document to a catalog.
//!
//! Promises: what comes out loads; an operation that cannot be told exactly is left out, not half
//! taken; whatever the document does not say is derived or guessed on the safe side (a write is of
//! high impact), and each such step is a note. Never fetches what the document refers to.
//! Called by `loopgate catalog import`.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::domain::catalog::BUILT_IN;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::raw::RawCatalog;
use crate::domain::catalog::raw::RawTool;
use crate::domain::catalog::text::plain;

mod answer;
mod arguments;
mod operation;
mod schema;

/// What the caller wants.
pub(super) struct Options {
    /// Name of the backend in the gateway's config.
    pub(super) backend: String,
    /// Whether answers are held against the response schemas.
    pub(super) output_schemas: bool,
}

/// Why a document cannot be imported at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportFault {
    /// Neither JSON nor YAML.
    #[error("the document is neither JSON nor YAML: {0}")]
    Syntax(String),
    /// Not `OpenAPI` 3.0 or 3.1.
    #[error("the document is not OpenAPI 3.0 or 3.1 (`openapi: {0}`); convert it first")]
    Version(String),
    /// It describes nothing.
    #[error("the document has no `paths`")]
    Empty,
    /// The catalog that came out is broken; a defect of this command.
    #[error("the catalog that came out does not load: {0}; report this with the document")]
    Defect(String),
}

/// What was done about something that the document does not say, or says in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Taken from another part of the document.
    Derived,
    /// Assumed, on the safe side.
    Guessed,
    /// Not imported.
    LeftOut,
}

/// One thing a reader of the imported catalog should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    /// What was done.
    pub(super) kind: Kind,
    /// The operation, as `METHOD /path`, or the document.
    pub(super) at: String,
    /// In words.
    pub(super) what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Derived => "derived",
            Kind::Guessed => "guessed",
            Kind::LeftOut => "left out",
        };
        write!(f, "{kind:<9} {}: {}", self.at, self.what)
    }
}

/// Notes of one operation.
pub(super) struct Notes<'n> {
    at: String,
    all: &'n mut Vec<Note>,
}

impl Notes<'_> {
    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.all.push(Note { kind, at: self.at.clone(), what: what.into() });
    }
}

/// The document, with what every operation needs of it.
pub(super) struct Document<'d> {
    root: &'d Value,
    /// Whether schemas are of the 3.0 dialect.
    is_30: bool,
    /// Path of the first server, put before every path.
    base: String,
    /// `GET /path` of lookups: they answer the gateway, not clients.
    lookups: BTreeSet<String>,
}

/// A catalog and how it came about.
#[derive(Debug)]
pub(super) struct Imported {
    /// The catalog; it loads.
    pub(super) catalog: RawCatalog,
    /// What a reader should know.
    pub(super) notes: Vec<Note>,
    title: String,
}

impl Imported {
    /// How many tools stand for routes.
    pub(super) fn routes(&self) -> usize {
        self.catalog.tools.iter().filter(|tool| tool.route.is_some()).count()
    }

    /// One line for the end.
    pub(super) fn summary(&self) -> String {
        let count = |kind| self.notes.iter().filter(|note| note.kind == kind).count();
        format!(
            "{} routes imported; {} derived, {} guessed, {} left out",
            self.routes(),
            count(Kind::Derived),
            count(Kind::Guessed),
            count(Kind::LeftOut)
        )
    }

    /// The catalog file.
    pub(super) fn to_yaml(&self) -> Result<String, ImportFault> {
        let yaml = serde_saphyr::to_string(&self.catalog).map_err(|error| ImportFault::Defect(error.to_string()))?;
        Catalog::from_yaml(&yaml).map_err(|faults| {
            ImportFault::Defect(faults.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let guessed = self.notes.iter().filter(|note| note.kind == Kind::Guessed);
        let mut lines = vec![format!("# Imported from {}.", self.title)];
        lines.extend(guessed.map(|note| format!("# Guessed, to be checked by a person: {}: {}", note.at, note.what)));
        lines.push(yaml);
        Ok(lines.join("\n"))
    }
}

/// Reads the document's text.
pub(super) fn document(text: &str) -> Result<Value, ImportFault> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| ImportFault::Syntax(error.to_string()));
    }
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ImportFault::Syntax(plain(&error.to_string(), 300)))
}

/// Makes the catalog.
pub(super) fn import(root: &Value, options: &Options) -> Result<Imported, ImportFault> {
    let version = root.get("openapi").and_then(Value::as_str).unwrap_or("absent");
    if !version.starts_with("3.0.") && !version.starts_with("3.1.") {
        return Err(ImportFault::Version(plain(version, 40)));
    }
    let paths = root.get("paths").and_then(Value::as_object).ok_or(ImportFault::Empty)?;
    let mut notes = Vec::new();
    let base = base(root, &mut notes);
    let document = Document { root, is_30: version.starts_with("3.0."), base, lookups: lookups(paths) };
    let mut tools = own_tools()?;
    for (path, item) in paths {
        tools.extend(operation::of_path(&document, path, item, options, &mut notes));
    }
    rename_twins(&mut tools, &mut notes);
    let catalog = RawCatalog { schema: 1, backend: options.backend.clone(), shared: Map::new(), tools };
    let catalog = without_faulty(catalog, &mut notes)?;
    let text = |pointer| plain(root.pointer(pointer).and_then(Value::as_str).unwrap_or_default(), 100);
    let title = format!("`{}` {}", text("/info/title"), text("/info/version"));
    Ok(Imported { catalog, notes, title: title.trim_end().to_owned() })
}

/// The gateway's own tools, as the built-in catalog has them.
fn own_tools() -> Result<Vec<RawTool>, ImportFault> {
    let built_in = RawCatalog::from_yaml(BUILT_IN).map_err(|faults| ImportFault::Defect(format!("{faults:?}")))?;
    Ok(built_in.tools.into_iter().filter(|tool| tool.gateway.is_some()).collect())
}

/// Path part of the first server.
fn base(root: &Value, notes: &mut Vec<Note>) -> String {
    let url = root.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or("/");
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => url,
    };
    if path.contains(['{', '?', '#']) {
        let what = format!("server `{}` has variables, so paths are taken as they are", plain(url, 200));
        notes.push(Note { kind: Kind::Guessed, at: "servers".to_owned(), what });
        return String::new();
    }
    let path = path.trim_matches('/');
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

/// Every route that another operation names as its lookup.
fn lookups(paths: &Map<String, Value>) -> BTreeSet<String> {
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    operations.filter_map(|operation| operation.pointer("/x-loopiq/lookup")?.as_str()).map(str::to_owned).collect()
}

fn rename_twins(tools: &mut [RawTool], notes: &mut Vec<Note>) {
    let mut seen = BTreeSet::new();
    for tool in tools {
        let wanted = tool.name.clone();
        let mut nth = 1;
        while !seen.insert(tool.name.clone()) {
            nth += 1;
            tool.name = format!("{}_{nth}", wanted.chars().take(60).collect::<String>());
        }
        if tool.name != wanted {
            let what = format!("the name `{wanted}` stands twice; this one is `{}`", tool.name);
            notes.push(Note { kind: Kind::Derived, at: tool.route.clone().unwrap_or_default(), what });
        }
    }
}

/// The catalog without the tools that the gateway would refuse.
fn without_faulty(mut catalog: RawCatalog, notes: &mut Vec<Note>) -> Result<RawCatalog, ImportFault> {
    let Err(faults) = Catalog::from_raw(&catalog) else { return Ok(catalog) };
    for fault in &faults {
        let name = fault.path.split(['[', ']']).nth(1).unwrap_or_default();
        let tool = catalog.tools.iter().find(|tool| tool.name == name && tool.gateway.is_none());
        let Some(tool) = tool else { continue };
        let at = tool.route.clone().unwrap_or_else(|| name.to_owned());
        notes.retain(|note| note.at != at);
        notes.push(Note { kind: Kind::LeftOut, at, what: fault.message.clone() });
        catalog.tools.retain(|tool| tool.name != name);
    }
    match Catalog::from_raw(&catalog) {
        Ok(_) => Ok(catalog),
        Err(faults) => {
            Err(ImportFault::Defect(faults.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        }
    }
}

#[cfg(test)]
mod tests;

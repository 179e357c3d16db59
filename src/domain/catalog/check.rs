//! The file's form to checked tools.
//!
//! Promises: every fault of every tool is told at once, each with its path and a remedy; what
//! comes out needs no further checking: schemas compile, every argument has one place, no two
//! tools share a route, no text hides characters. Never repairs. Called by [`Catalog::from_raw`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Answerer;
use super::Catalog;
use super::CatalogFault;
use super::Compiled;
use super::DryRun;
use super::Effect;
use super::Impact;
use super::OwnTool;
use super::Route;
use super::Tool;
use super::pointer::Pointer;
use super::raw::Audit;
use super::raw::Idempotent;
use super::raw::RawCatalog;
use super::raw::RawTool;
use super::template::Segment;
use super::template::Template;
use super::text;
use crate::domain::canonical;
use crate::domain::identity::metadata::is_scope;

pub(super) mod input;

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// A route that says nothing gets this long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any client waits for an answer.
const TIMEOUT_MAX: Duration = Duration::from_mins(5);
/// A title is a line, a description some paragraphs; both are paid for by every model that lists tools.
const TITLE_CHARS_MAX: usize = 100;
const DESCRIPTION_CHARS_MAX: usize = 4_000;

/// Faults found so far, all under one path.
struct Faults<'f> {
    path: String,
    found: &'f mut Vec<CatalogFault>,
}

impl Faults<'_> {
    fn at(&mut self, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let dot = if field.is_empty() { "" } else { "." };
        self.found.push(CatalogFault::new(format!("{}{dot}{field}", self.path), message, remedy));
    }
}

/// Checks a whole catalog.
pub(super) fn check(raw: &RawCatalog) -> Result<Catalog, Vec<CatalogFault>> {
    let mut found = Vec::new();
    if raw.schema != 1 {
        found.push(CatalogFault::new("schema", format!("form {} is not known", raw.schema), "write `schema: 1`"));
    }
    let mut tools = BTreeMap::new();
    for raw_tool in &raw.tools {
        let path = format!("tools[{}]", text::plain(&raw_tool.name, 64));
        let mut faults = Faults { path: path.clone(), found: &mut found };
        if let Some(tool) = tool(raw_tool, &raw.backend, &mut faults)
            && tools.insert(tool.name.clone(), tool).is_some()
        {
            found.push(CatalogFault::new(path, "the name stands twice", "give each tool its own name"));
        }
    }
    one_tool_per_route(&tools, &mut found);
    if !found.is_empty() {
        return Err(found);
    }
    shadows(&mut tools);
    let digests: Vec<&str> = tools.values().map(|tool| tool.digest.as_str()).collect();
    let digest = canonical::digest(digests.join("\n").as_bytes());
    let tools = tools.into_iter().map(|(name, tool)| (name, Arc::new(tool))).collect();
    Ok(Catalog { digest, tools, prompts: BTreeMap::new(), templates: Vec::new() })
}

fn tool(raw: &RawTool, default_backend: &str, faults: &mut Faults<'_>) -> Option<Tool> {
    let before = faults.found.len();
    words(raw, faults);
    let input = input::closed(raw.input.clone());
    let answerer = answerer(raw, default_backend, &input, faults);
    let impact = impact(raw, faults);
    let input_validator = input::check(&input, faults);
    let output = raw.output.as_ref().and_then(|schema| schema_of("output", schema, faults));
    let pointers = |field: &str, texts: &[String], faults: &mut Faults<'_>| pointers(field, texts, faults);
    let tenant_fields = pointers("tenant_fields", raw.tenant_fields.as_deref().unwrap_or_default(), faults);
    let record_ids = pointers("record_ids", &raw.record_ids, faults);
    let tenant_arguments = pointers("tenant_arguments", &raw.tenant_arguments, faults);
    let _checked_only = pointers("sensitive", &raw.sensitive, faults);
    if raw.audit == Audit::BestEffort && raw.effect != Effect::Read {
        faults.at("audit", "only a read may go unrecorded", "write `audit: durable`, or leave it out");
    }
    if !raw.scopes.iter().all(|scope| is_scope(scope)) {
        faults.at("scopes", "something in it is no scope", "name scopes as tokens carry them, each by itself");
    }
    let (answerer, template) = answerer?;
    let digest = canonical::digest_value(&json!({ "tool": raw, "backend": default_backend }));
    if let Err(fault) = &digest {
        faults.at("", fault.to_string(), "write such numbers smaller");
    }
    if faults.found.len() > before {
        return None;
    }
    let mut tool = Tool {
        name: raw.name.clone(),
        title: raw.title.clone(),
        description: raw.description.trim().to_owned(),
        family: raw.family.clone(),
        effect: raw.effect,
        impact,
        input: input.clone(),
        output: raw.output.clone(),
        answerer,
        tenant_fields: raw.tenant_fields.clone().unwrap_or_default(),
        record_ids: raw.record_ids.clone(),
        tenant_arguments: raw.tenant_arguments.clone(),
        sensitive: raw.sensitive.clone(),
        scopes: raw.scopes.clone(),
        dry_run: raw.dry_run.clone(),
        idempotent: raw.idempotent == Idempotent::Backend,
        lookup: raw.lookup.clone(),
        etag: raw.etag.clone(),
        best_effort_audit: raw.audit == Audit::BestEffort,
        digest: digest.ok()?,
        compiled: Compiled {
            input: input_validator?,
            output,
            offered: input,
            template,
            version: question(raw.etag.as_deref()),
            lookup: question(raw.lookup.as_deref()),
            shadows: Vec::new(),
            tenant_fields,
            record_ids,
            tenant_arguments,
            tenant_fields_stated: raw.tenant_fields.is_some(),
        },
    };
    tool.compiled.offered = input::offered(&tool);
    Some(tool)
}

fn words(raw: &RawTool, faults: &mut Faults<'_>) {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.bytes().all(name) {
        faults.at("name", "a name is 1 to 64 of `A-Z a-z 0-9 _ . -`", "rename the tool");
    }
    let family = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !raw.family.starts_with(|first: char| first.is_ascii_lowercase()) || !raw.family.bytes().all(family) {
        faults.at("family", "a family is `[a-z][a-z0-9_]*`", "name the family as policies do, such as `work_item`");
    }
    for (field, text, chars_max) in
        [("title", &raw.title, TITLE_CHARS_MAX), ("description", &raw.description, DESCRIPTION_CHARS_MAX)]
    {
        let chars = text.chars().count();
        if text.trim().is_empty() || chars > chars_max {
            faults.at(field, format!("it has {chars} characters"), format!("write 1 to {chars_max} characters"));
        }
        if text.chars().any(|c| text::is_hidden(c) && c != '\n') {
            faults.at(
                field,
                "it has control, bidirectional, tag or invisible characters",
                "remove them: a model reads what people cannot see",
            );
        }
    }
}

fn impact(raw: &RawTool, faults: &mut Faults<'_>) -> Impact {
    match (raw.impact, raw.effect) {
        (Some(impact), _) => impact,
        (None, Effect::Read) => Impact::Low,
        (None, Effect::Write | Effect::Admin) => {
            faults.at(
                "impact",
                "a tool that is no plain read must state its impact",
                "write `impact: high`, or `low` if no person need look",
            );
            Impact::High
        }
    }
}

type Answering = (Answerer, Option<Template>);

fn answerer(raw: &RawTool, default_backend: &str, input: &Value, faults: &mut Faults<'_>) -> Option<Answering> {
    match (&raw.route, raw.gateway) {
        (Some(route), None) => {
            let (route, template) = route_of(raw, route, default_backend, input, faults)?;
            Some((Answerer::Route(route), Some(template)))
        }
        (None, Some(own)) => {
            own_tool(raw, own, faults);
            Some((Answerer::Gateway(own), None))
        }
        (None, None) | (Some(_), Some(_)) => {
            faults.at("route", "a tool has either a `route` or a `gateway` answer", "write exactly one of the two");
            None
        }
    }
}

fn own_tool(raw: &RawTool, own: OwnTool, faults: &mut Faults<'_>) {
    let of_routes = [
        ("backend", raw.backend.is_some()),
        ("query", raw.query.is_some()),
        ("body", raw.body.is_some()),
        ("timeout", raw.timeout.is_some()),
        ("dry_run", raw.dry_run.is_some()),
        ("idempotent", raw.idempotent != Idempotent::None),
        ("lookup", raw.lookup.is_some()),
        ("etag", raw.etag.is_some()),
    ];
    for (field, _) in of_routes.iter().filter(|(_, there)| *there) {
        faults.at(field, "the gateway answers this tool itself", format!("remove `{field}`"));
    }
    if raw.effect != Effect::Read {
        faults.at("effect", format!("`{own:?}` changes nothing by itself"), "write `effect: read`");
    }
}

fn route_of(
    raw: &RawTool,
    text: &str,
    default_backend: &str,
    input: &Value,
    faults: &mut Faults<'_>,
) -> Option<(Route, Template)> {
    let (method, template_text) = text.split_once(' ').unwrap_or((text, ""));
    if !METHODS.contains(&method) {
        faults.at("route", format!("it must start with one of {}", METHODS.join(", ")), "write `METHOD /path/{var}`");
        return None;
    }
    let template = match Template::parse(template_text) {
        Ok(template) => template,
        Err(what) => {
            faults.at("route", what, "write `METHOD /path/{var}`, each variable a whole segment");
            return None;
        }
    };
    match (raw.effect, method) {
        (Effect::Read, "PUT" | "PATCH" | "DELETE") => {
            faults.at("effect", format!("{method} is no read"), "write `effect: write`, or `admin`");
        }
        (Effect::Write, "GET" | "HEAD") => faults.at("effect", format!("{method} is no write"), "write `effect: read`"),
        _ => {}
    }
    let (query, body) = input::places(raw, method, &template, input, faults);
    let backend = raw.backend.as_deref().unwrap_or(default_backend).to_owned();
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if backend.is_empty() || backend.len() > 64 || !backend.bytes().all(proper) {
        faults.at(
            "backend",
            "a backend's name is 1 to 64 of `A-Z a-z 0-9 _ -`",
            "use the name that the gateway's config gives it",
        );
    }
    asking(raw, &template, &query, &body, faults);
    let timeout = timeout(raw, faults);
    Some((
        Route { backend, method: method.to_owned(), template: template_text.to_owned(), query, body, timeout },
        template,
    ))
}

/// `dry_run`, `lookup` and `etag`: how the backend is asked about a write.
fn asking(raw: &RawTool, template: &Template, query: &[String], body: &[String], faults: &mut Faults<'_>) {
    match &raw.dry_run {
        Some(DryRun::Query(flag)) if flag.is_empty() || query.contains(flag) => {
            faults.at("dry_run", "the flag is empty or an argument too", "remove the argument: clients send `dryRun`");
        }
        Some(DryRun::Body(flag)) if flag.is_empty() || body.contains(flag) => {
            faults.at("dry_run", "the flag is empty or an argument too", "remove the argument: clients send `dryRun`");
        }
        Some(DryRun::Query(_) | DryRun::Body(_)) | None => {}
    }
    let known: Vec<&str> = template.variables().collect();
    for (field, text, variables) in [("lookup", &raw.lookup, &["key"][..]), ("etag", &raw.etag, &known)] {
        let Some(text) = text else { continue };
        let parsed =
            text.strip_prefix("GET ").ok_or_else(|| "it must start with `GET `".to_owned()).and_then(Template::parse);
        match parsed {
            Ok(parsed) if parsed.variables().all(|name| variables.contains(&name)) => {}
            Ok(_) => faults.at(
                field,
                format!("its variables must be among: {}", variables.join(", ")),
                "use those variables only",
            ),
            Err(what) => faults.at(field, what, "write `GET /path/{var}`"),
        }
    }
    if raw.lookup.as_ref().is_some_and(|text| !text.contains("{key}")) {
        faults.at("lookup", "it asks for no execution", "put `{key}` where the execution's key goes");
    }
}

/// `GET /path/{var}` taken apart; [`asking`] has told what is wrong with one that cannot be.
fn question(text: Option<&str>) -> Option<Template> {
    Template::parse(text?.strip_prefix("GET ")?).ok()
}

fn timeout(raw: &RawTool, faults: &mut Faults<'_>) -> Duration {
    let Some(text) = &raw.timeout else { return TIMEOUT };
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    if let Some(span) = parsed.filter(|span| *span >= Duration::from_millis(1) && *span <= TIMEOUT_MAX) {
        return span;
    }
    let message = format!("`{}` is no time between 1ms and 5m", text::plain(text, 40));
    faults.at("timeout", message, "write it with unit, such as `10s`");
    TIMEOUT
}

fn pointers(field: &str, texts: &[String], faults: &mut Faults<'_>) -> Vec<Pointer> {
    let mut pointers = Vec::new();
    for text in texts {
        match Pointer::parse(text) {
            Ok(pointer) => pointers.push(pointer),
            Err(fault) => faults.at(field, fault.to_string(), "write such as `/items/*/id`"),
        }
    }
    pointers
}

fn schema_of(field: &str, schema: &Value, faults: &mut Faults<'_>) -> Option<jsonschema::Validator> {
    match super::schema::compile(schema) {
        Ok(validator) => Some(validator),
        Err(what) => {
            faults.at(field, format!("it is no usable JSON Schema 2020-12: {what}"), "correct the schema");
            None
        }
    }
}

/// INVARIANT: a route has one tool, so that a raw invocation of it can mean one thing only.
fn one_tool_per_route(tools: &BTreeMap<String, Tool>, found: &mut Vec<CatalogFault>) {
    let mut seen: BTreeMap<(String, String, Vec<Option<String>>), &str> = BTreeMap::new();
    for tool in tools.values() {
        let (Some(route), Some(template)) = (tool.route(), &tool.compiled.template) else { continue };
        let shape = template.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => Some(literal.clone()),
            Segment::Variable(_) => None,
        });
        // WHY: across backends too, because a raw invocation names no backend.
        let key = (route.method.clone(), String::new(), shape.collect());
        if let Some(other) = seen.insert(key, &tool.name) {
            found.push(CatalogFault::new(
                format!("tools[{}].route", tool.name),
                format!("`{}` is the route of `{other}` too", route.text()),
                "keep one tool per route",
            ));
        }
    }
}

/// Finds the values that would make one tool's path another tool's route, such as release
/// `search` in `/releases/{release}` beside `/releases/search`.
fn shadows(tools: &mut BTreeMap<String, Tool>) {
    let routes: Vec<(String, String, Template)> = tools
        .values()
        .filter_map(|tool| Some((tool.name.clone(), tool.route()?.method.clone(), tool.compiled.template.clone()?)))
        .collect();
    for tool in tools.values_mut() {
        let Some(template) = tool.compiled.template.clone() else { continue };
        let Some(method) = tool.route().map(|route| route.method.clone()) else { continue };
        tool.compiled.shadows = routes
            .iter()
            .filter(|(name, other, _)| *name != tool.name && *other == method)
            .filter_map(|(_, _, other)| shadow(&template, other))
            .collect();
    }
}

fn shadow(template: &Template, other: &Template) -> Option<BTreeMap<String, String>> {
    if template.segments.len() != other.segments.len() {
        return None;
    }
    let mut values = BTreeMap::new();
    for pair in template.segments.iter().zip(&other.segments) {
        match pair {
            (Segment::Literal(left), Segment::Literal(right)) if left != right => return None,
            (Segment::Variable(name), Segment::Literal(literal)) => {
                values.insert(name.clone(), literal.clone());
            }
            (Segment::Literal(_), _) | (Segment::Variable(_), Segment::Variable(_)) => {}
        }
    }
    (!values.is_empty()).then_some(values)
}

/// Members of an object schema's `properties`.
pub(super) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

//! What upstream servers offer besides tools: their lists, and the tool that each request is judged as.
//!
//! Promises: what stands for a server's prompts or resources is seen or hidden, decided about and
//! recorded as any tool is; what is hidden answers as what does not exist; a method that no server
//! could answer is not served. Never sends. Called by `pep` and `decide`.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Pep;
use super::arrival::Arrival;
use super::asked::Asked;
use super::asked::Reply;
use super::decide::Standing;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::Part;
use crate::domain::catalog::Target;
use crate::domain::catalog::upstream;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::inspect::said;
use crate::domain::mcp;
use crate::domain::mcp::Era;
use crate::domain::mcp::ToolCall;
use crate::domain::mcp::offered::Level;
use crate::domain::mcp::offered::Listed;
use crate::domain::mcp::offered::Operation;
use crate::domain::mcp::offered::Subject;
use crate::domain::mcp::offered::Verb;
use crate::domain::mcp::receive::unknown_method;
use crate::domain::mcp::reply::Offers;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;

/// Resources of all servers that one list is made of.
const RESOURCES_MAX: usize = 10_000;
/// Callers whose log levels are remembered.
const LEVELS_MAX: usize = 4_096;

/// How much log each legacy client wants of upstream servers. Forgetting is harmless: a client that
/// has set nothing gets what the server sends.
#[derive(Debug, Default)]
pub struct Levels(Mutex<HashMap<[String; 3], Level>>);

impl Levels {
    fn set(&self, caller: &Principal, level: Level) {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= LEVELS_MAX {
            levels.clear();
        }
        levels.insert(key(caller), level);
    }

    /// The least severe message that a caller wants.
    pub(super) fn of(&self, caller: &Principal) -> Level {
        let levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        levels.get(&key(caller)).copied().unwrap_or(Level::Debug)
    }
}

fn key(caller: &Principal) -> [String; 3] {
    [caller.issuer.clone(), caller.user.clone(), caller.client.clone().unwrap_or_default()]
}

impl Pep {
    /// What upstream servers add to tools, all of them together: what one caller may see of it is
    /// decided when they ask for it.
    pub(super) fn offers(&self) -> Offers {
        let Some(rules) = self.rules.current() else { return Offers::default() };
        let mut offers = Offers::default();
        let offered = self.upstreams.offers();
        for (upstream, _) in rules.catalog.parts() {
            match upstream.part {
                Part::Prompts => offers.prompts = true,
                Part::Resources => offers.resources = true,
                Part::Tool(_) => {}
            }
            offers.completions |= offered.get(&upstream.server).is_some_and(|offer| offer.can("completions"));
        }
        let mut servers = rules.catalog.tools().filter_map(|tool| tool.upstream());
        offers.logging = servers.any(|one| offered.get(&one.server).is_some_and(|offer| offer.can("logging")));
        offers
    }

    /// Whether any server could answer such a request at all.
    pub(super) fn offered(&self, era: Era, operation: &Operation) -> Result<(), Fault> {
        let offers = self.offers();
        let served = match operation.verb {
            Verb::GetPrompt => offers.prompts,
            Verb::ReadResource | Verb::Subscribe | Verb::Unsubscribe => offers.resources,
            Verb::Complete => offers.completions,
        };
        if served { Ok(()) } else { Err(unknown_method(era, operation.verb.method())) }
    }

    /// `logging/setLevel`.
    pub(super) fn set_level(&self, caller: &Principal, era: Era, level: Level) -> Result<Reply, Fault> {
        if !self.offers().logging {
            return Err(unknown_method(era, "logging/setLevel"));
        }
        self.levels.set(caller, level);
        Ok(Reply::LevelSet)
    }

    /// `prompts/list`, `resources/list`, `resources/templates/list`: of the servers whose part the
    /// caller may see.
    pub(super) async fn list_offered(
        &self,
        arrival: &Arrival,
        principal: &Arc<Principal>,
        asked: &mut Asked,
        what: Listed,
        cursor: Option<&str>,
    ) -> Result<Reply, No> {
        let (era, offers) = (asked.request.as_ref().map_or(Era::Modern, |request| request.era), self.offers());
        let (part, served) = match what {
            Listed::Prompts => (Part::Prompts, offers.prompts),
            Listed::Resources | Listed::Templates => (Part::Resources, offers.resources),
        };
        if !served {
            return Err(unknown_method(era, what.method()).into());
        }
        let meta = asked.request.as_ref().map(|request| request.meta.clone()).unwrap_or_default();
        asked.controls = mcp::controls::controls(&meta, &arrival.head, &mut Map::new())?;
        let standing = self.resolve_tenant(arrival, principal, asked).await?;
        let catalog = &standing.rules.catalog;
        let parts: Vec<(&str, &str)> = catalog
            .parts()
            .filter(|(upstream, _)| upstream.part == part)
            .map(|(upstream, tool)| (tool.name.as_str(), upstream.server.as_str()))
            .collect();
        let facts = parts.iter().filter_map(|(name, _)| standing.rules.facts.get_key_value(*name));
        let facts = facts.map(|(name, facts)| (name.clone(), facts.clone())).collect();
        let visible = self.visible(&standing, asked, facts)?;
        let seen = |name: &str| visible.iter().any(|one| one == name);
        let servers: Vec<&str> = parts.iter().filter(|(name, _)| seen(name)).map(|(_, server)| *server).collect();
        let elements = self.elements(catalog, what, &servers, &standing.tenant);
        let elements: Vec<(String, Value)> = elements.into_iter().collect();
        let page = mcp::cursor::page(&elements, cursor, self.settings.list_page, |(name, _)| name)?;
        let elements = page.items.iter().map(|(_, element)| element.clone()).collect();
        Ok(Reply::Offered { what, elements, next: page.next_cursor })
    }

    /// What these servers offer, by what names it; the first server has the name.
    fn elements(&self, catalog: &Catalog, what: Listed, servers: &[&str], tenant: &Tenant) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let mut add = |element: Value| {
            if let Some(name) = element.get(what.key()).and_then(Value::as_str).map(str::to_owned) {
                all.entry(name).or_insert(element);
            }
        };
        match what {
            Listed::Prompts => {
                let of = catalog.prompts().filter(|(_, prompt)| servers.contains(&prompt.server.as_str()));
                of.for_each(|(_, prompt)| add(prompt.definition.clone()));
            }
            Listed::Templates => {
                let of = catalog.templates().iter().filter(|one| servers.contains(&one.server.as_str()));
                of.for_each(|one| add(one.definition.clone()));
            }
            Listed::Resources => {
                let offers = self.upstreams.offers();
                let of = servers.iter().filter_map(|server| offers.get(*server)).flat_map(|offer| &offer.resources);
                // WHY: a resource that cannot be shown, for hidden characters in its name, is not listed.
                // Nor is one that says it is another tenant's: the list was read for everybody.
                let of = of.filter(|one| !said::names_another(one, tenant));
                of.take(RESOURCES_MAX).filter_map(|one| upstream::resource(one).ok()).for_each(add);
            }
        }
        all
    }

    /// The tool that stands for what a request is about.
    pub(super) fn offered_target(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        operation: &Operation,
        call: &ToolCall,
    ) -> Result<Target, No> {
        let offers = self.upstreams.offers();
        let subject = operation.subject();
        let lists = |server: &str, uri: &str| {
            let listed = offers.get(server).map(|offer| &offer.resources).into_iter().flatten();
            listed.filter_map(|one| one.get("uri").and_then(Value::as_str)).any(|one| one == uri)
        };
        let tool = standing.rules.catalog.stands_for(subject, &lists);
        if !self.is_visible(standing, asked, call, tool)? {
            return Err(no_such_subject(asked, subject));
        }
        let Some(tool) = tool else { return Err(no_such_subject(asked, subject)) };
        asked.record.called(tool, None, &call.arguments);
        if asked.controls.dry_run {
            let next = "call it again without `dryRun`";
            return Err(Refusal::because(Code::InvalidArguments, "this changes nothing, so it has no dry run")
                .then(next)
                .into());
        }
        tool.validate(&call.arguments)?;
        Ok(Target { tool: Arc::clone(tool), arguments: call.arguments.clone(), via: None })
    }
}

/// The answer to a request about what does not exist, and about what the caller may not see.
pub(super) fn no_such_subject(asked: &Asked, subject: Subject<'_>) -> No {
    let modern = asked.request.as_ref().is_some_and(|request| request.era.is_modern());
    match subject {
        Subject::Prompt(name) => Fault::new(200, -32602, format!("unknown prompt: {name}")).into(),
        Subject::Resource(uri) => {
            let code = if modern { -32602 } else { -32002 };
            Fault::new(200, code, "resource not found").with(json!({"uri": uri})).into()
        }
    }
}

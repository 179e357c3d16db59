//! What upstream MCP servers offer, joined to the catalog under the terms of the settings.
//!
//! Promises: only a definition that is accepted, word for word, is in the catalog; one that changed
//! is out of it until somebody accepts it; nothing takes a name that is taken; what is left out is
//! told with its cause, and hinders nothing else. A server is not believed about what its tools do.
//! Never fetches. Called by `adapters::reload` and the catalog commands; read by `pep`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Catalog;
use super::Effect;
use super::Impact;
use super::Part;
use super::Tool;
use super::Upstream;
use crate::domain::canonical;
use crate::domain::mcp::offered::Subject;
use crate::domain::upstream::Offer;
use crate::domain::upstream::digest;
use crate::domain::upstream::pins::Kind;
use crate::domain::upstream::pins::Pins;

mod definition;

pub use definition::resource;
pub use definition::shows_all;

/// Definitions of one kind and server that are looked at.
const DEFINITIONS_MAX: usize = 500;
/// Definitions of one kind and server that are accepted at first sight, ever; then people do. WHY: a server
/// that offers other names all the time must not fill the disk.
const MET_MAX: usize = 500;

const TWICE: &str = "another definition of its name stands before it";

/// Whether what is seen for the first time is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// It is, and from then on only that.
    First,
    /// It waits until somebody accepts it.
    Listed,
}

/// What the settings say of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Its name in the settings.
    pub server: String,
    /// What is put before the names of its tools and prompts.
    pub prefix: String,
    /// Whether what is seen for the first time is accepted.
    pub trust: Trust,
    /// Whether its own word counts for what a tool does.
    pub believe_hints: bool,
    /// What its tools are, where nothing else is said.
    pub defaults: Class,
    /// What single tools are, by their names there.
    pub tools: BTreeMap<String, ToolTerms>,
    /// Whether its prompts are passed on.
    pub prompts: bool,
    /// Whether its resources are passed on.
    pub resources: bool,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a tool is taken for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// What it does to the world.
    pub effect: Option<Effect>,
    /// How bad a mistake would be.
    pub impact: Option<Impact>,
    /// Family that policies speak of.
    pub family: Option<String>,
}

/// What the settings say of one tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolTerms {
    /// What it is taken for.
    pub class: Class,
    /// Whether it is left out.
    pub hidden: bool,
    /// Where the answer names its tenant; none if the settings do not say.
    pub tenant_fields: Option<Vec<String>>,
    /// Where the answer names its records.
    pub record_ids: Vec<String>,
    /// Which arguments name a tenant.
    pub tenant_arguments: Vec<String>,
    /// Which arguments audit must not keep in clear.
    pub sensitive: Vec<String>,
}

/// A prompt that is passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Whose it is.
    pub server: String,
    /// Its definition, as clients see it.
    pub definition: Value,
}

/// A template of resources that is passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Whose it is.
    pub server: String,
    /// Its definition, as clients see it.
    pub definition: Value,
}

/// One definition of an offer, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Whose it is.
    pub server: String,
    /// What it defines.
    pub kind: Kind,
    /// Its name there.
    pub name: String,
    /// Its digest as offered; empty where it has none.
    pub digest: String,
    /// What became of it.
    #[serde(flatten)]
    pub standing: Standing,
}

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It is in the catalog.
    Accepted,
    /// It is in the catalog, and was never seen before.
    Met,
    /// It is new and waits to be accepted.
    Awaits,
    /// It is another one than was accepted, and waits to be accepted.
    Changed {
        /// Digest of the accepted one.
        was: String,
    },
    /// It cannot be used, whoever accepts it.
    Unfit {
        /// What is wrong with it.
        why: String,
    },
    /// The settings leave it out.
    Hidden,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Met => "met",
            Self::Awaits => "awaits",
            Self::Changed { .. } => "changed",
            Self::Unfit { .. } => "unfit",
            Self::Hidden => "hidden",
        }
    }
}

/// A catalog with what upstream servers offer.
#[derive(Debug)]
pub struct Joined {
    /// The catalog.
    pub catalog: Catalog,
    /// Every definition that was offered.
    pub seen: Vec<Seen>,
}

impl Catalog {
    /// Adds what upstream servers offer; servers in the order of `all`, the first come first served.
    /// Terms of a server that offers nothing now keep its names for it.
    #[must_use]
    pub fn join(
        mut self,
        offers: &BTreeMap<String, Arc<Offer>>,
        all: &[Terms],
        pins: &BTreeMap<String, Pins>,
    ) -> Joined {
        let mut seen = Vec::new();
        for terms in all {
            let Some(offer) = offers.get(&terms.server) else { continue };
            let none = Pins::none(&terms.server);
            let pins = pins.get(&terms.server).unwrap_or(&none);
            self.add_parts(offer, terms, &mut seen);
            for (kind, definitions) in
                [(Kind::Tool, &offer.tools), (Kind::Prompt, &offer.prompts), (Kind::Template, &offer.templates)]
            {
                let passed_on = match kind {
                    Kind::Tool => true,
                    Kind::Prompt => terms.prompts,
                    Kind::Template => terms.resources,
                };
                for definition in definitions.iter().take(DEFINITIONS_MAX).filter(|_| passed_on) {
                    seen.push(self.add(definition, kind, (terms, all), pins, offer));
                }
            }
        }
        if !seen.is_empty() {
            self.digest = self.digest_of_all();
        }
        Joined { catalog: self, seen }
    }

    /// The tools that stand for a server's prompts and for its resources.
    fn add_parts(&mut self, offer: &Offer, terms: &Terms, seen: &mut Vec<Seen>) {
        for (part, wanted, word) in
            [(Part::Prompts, terms.prompts, "prompts"), (Part::Resources, terms.resources, "resources")]
        {
            if !wanted || !offer.can(word) {
                continue;
            }
            let name = format!("{}.{word}", terms.server);
            let why = match definition::part(&name, part, terms) {
                Ok(tool) if !self.tools.contains_key(&name) => {
                    self.tools.insert(name, Arc::new(tool));
                    continue;
                }
                Ok(_) => format!("the name `{name}` is taken"),
                Err(why) => why,
            };
            let standing = Standing::Unfit { why };
            let (server, digest) = (terms.server.clone(), String::new());
            seen.push(Seen { server, kind: Kind::Tool, name, digest, standing });
        }
    }

    fn add(
        &mut self,
        definition: &Value,
        kind: Kind,
        (terms, all): (&Terms, &[Terms]),
        pins: &Pins,
        offer: &Offer,
    ) -> Seen {
        let key = if kind == Kind::Template { "uriTemplate" } else { "name" };
        let name = definition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let digest = digest(definition).unwrap_or_default();
        let mut told = Seen { server: terms.server.clone(), kind, name, digest, standing: Standing::Accepted };
        if kind == Kind::Tool && terms.tools.get(&told.name).is_some_and(|tool| tool.hidden) {
            told.standing = Standing::Hidden;
            return told;
        }
        // WHY: people accept by name, and must not be shown the one and accept the other.
        let first = offer.definition(kind, &told.name).is_none_or(|first| std::ptr::eq(first, definition));
        let fit = if first { self.fit(definition, kind, (terms, all), &told) } else { Err(TWICE.to_owned()) };
        told.standing = match (&fit, pins.pin(kind, &told.name), terms.trust) {
            (Err(why), ..) => Standing::Unfit { why: why.clone() },
            (Ok(_), Some(pin), _) if pin.digest == told.digest => Standing::Accepted,
            (Ok(_), Some(pin), _) => Standing::Changed { was: pin.digest.clone() },
            (Ok(_), None, Trust::First) if pins.of(kind).len() < MET_MAX => Standing::Met,
            (Ok(_), None, Trust::First | Trust::Listed) => Standing::Awaits,
        };
        if let (Ok(fit), Standing::Accepted | Standing::Met) = (fit, &told.standing) {
            self.take(fit, &terms.server);
        }
        told
    }

    /// The definition as it would be in the catalog.
    fn fit(
        &self,
        definition: &Value,
        kind: Kind,
        (terms, all): (&Terms, &[Terms]),
        told: &Seen,
    ) -> Result<Fit, String> {
        if told.digest.is_empty() {
            return Err("it has a number that JSON cannot carry exactly".to_owned());
        }
        match kind {
            Kind::Tool => {
                let tool = definition::tool(definition, terms, &told.digest)?;
                kept_for(&tool.name, terms, all)?;
                self.free(&tool.name).map(|()| Fit::Tool(Box::new(tool)))
            }
            Kind::Prompt => {
                let (name, shown) = definition::prompt(definition, terms)?;
                kept_for(&name, terms, all)?;
                if self.prompts.contains_key(&name) {
                    return Err(format!("another prompt is named `{name}`; give its server a `prefix`"));
                }
                Ok(Fit::Prompt(name, shown))
            }
            Kind::Template => {
                let shown = definition::template(definition)?;
                let taken = self
                    .templates
                    .iter()
                    .any(|other| other.definition.get("uriTemplate") == Some(&told.name.as_str().into()));
                if taken { Err("another template is the same".to_owned()) } else { Ok(Fit::Template(shown)) }
            }
        }
    }

    fn free(&self, name: &str) -> Result<(), String> {
        if self.tools.contains_key(name) {
            return Err(format!("the name `{name}` is taken; give its server another `prefix`"));
        }
        Ok(())
    }

    fn take(&mut self, fit: Fit, server: &str) {
        let server = server.to_owned();
        match fit {
            Fit::Tool(tool) => drop(self.tools.insert(tool.name.clone(), Arc::new(*tool))),
            Fit::Prompt(name, definition) => drop(self.prompts.insert(name, Prompt { server, definition })),
            Fit::Template(definition) => self.templates.push(Template { server, definition }),
        }
    }

    fn digest_of_all(&self) -> String {
        let tools: Vec<&str> = self.tools.values().map(|tool| tool.digest.as_str()).collect();
        let prompts: Vec<Value> = self.prompts.values().map(|one| json!([one.server, one.definition])).collect();
        let templates: Vec<Value> = self.templates.iter().map(|one| json!([one.server, one.definition])).collect();
        let all = json!({"tools": tools, "prompts": prompts, "templates": templates});
        // INVARIANT: every definition had a digest, so its numbers can be carried.
        canonical::digest_value(&all).unwrap_or_default()
    }

    /// Every prompt that is passed on, by the name that clients see.
    pub fn prompts(&self) -> impl Iterator<Item = (&String, &Prompt)> {
        self.prompts.iter()
    }

    /// Every template that is passed on.
    #[must_use]
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// The tools that stand for parts of upstream servers, such as `crm.prompts`.
    pub fn parts(&self) -> impl Iterator<Item = (&Upstream, &Arc<Tool>)> {
        let part = |tool: &'_ &Arc<Tool>| !tool.is_called();
        self.tools.values().filter(part).filter_map(|tool| Some((tool.upstream()?, tool)))
    }

    /// The tool that stands for what a subject is of; `lists` says which servers list a resource.
    ///
    /// A prompt is its server's, by name. A resource is that of the first server that lists it, else of
    /// the first with a template that fits, else of the only server that has resources at all.
    #[must_use]
    pub fn stands_for(&self, subject: Subject<'_>, lists: &dyn Fn(&str, &str) -> bool) -> Option<&Arc<Tool>> {
        let part_of = |server: &str, part: &Part| {
            let mut parts = self.parts();
            parts.find(|(upstream, _)| upstream.server == server && upstream.part == *part).map(|(_, tool)| tool)
        };
        match subject {
            Subject::Prompt(name) => part_of(&self.prompts.get(name)?.server, &Part::Prompts),
            Subject::Resource(uri) => {
                let all = || self.parts().filter(|(upstream, _)| upstream.part == Part::Resources);
                let listed = all().find(|(upstream, _)| lists(&upstream.server, uri)).map(|(_, tool)| tool);
                let fitting = || {
                    let of = |one: &&Template| {
                        one.definition.get("uriTemplate").and_then(Value::as_str).is_some_and(|text| fits(text, uri))
                    };
                    part_of(&self.templates.iter().find(of)?.server, &Part::Resources)
                };
                let only = || {
                    let mut all = all();
                    let (first, second) = (all.next(), all.next());
                    first.filter(|_| second.is_none()).map(|(_, tool)| tool)
                };
                listed.or_else(fitting).or_else(only)
            }
        }
    }
}

/// Whether a name is kept for another server: `crm_eu_find` is for `crm_eu`, whether that server is there or
/// not, and never a tool `eu_find` of `crm`; `erp.prompts` stands for the prompts of `erp`.
fn kept_for(name: &str, terms: &Terms, all: &[Terms]) -> Result<(), String> {
    let others = all.iter().filter(|other| other.server != terms.server);
    let keeps = |other: &&Terms| {
        let longer = other.prefix.len() > terms.prefix.len() && name.starts_with(&other.prefix);
        let part = name.strip_prefix(&other.server).is_some_and(|rest| matches!(rest, ".prompts" | ".resources"));
        longer || part
    };
    match others.into_iter().find(keeps) {
        Some(other) => Err(format!("the name `{name}` is kept for the server `{}`", other.server)),
        None => Ok(()),
    }
}

/// A definition that can be used.
enum Fit {
    Tool(Box<Tool>),
    Prompt(String, Value),
    Template(Value),
}

/// Whether a URI is the template itself, or one that it may stand for: every `{…}` is some text. This
/// only finds the server; what the URI names, the server says.
fn fits(template: &str, uri: &str) -> bool {
    if template == uri {
        return true;
    }
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else { return false };
        literals.push(before);
        rest = after;
    }
    let Some((first, others)) = literals.split_first() else { return false };
    let Some(mut left) = uri.strip_prefix(first) else { return false };
    for literal in others {
        let Some(at) = left.find(literal) else { return false };
        left = left.get(at + literal.len()..).unwrap_or_default();
    }
    left.ends_with(rest)
}

#[cfg(test)]
mod tests;

//! What `loopgate policy eval` and `explain` are asked: a file, a case, a recorded decision or flags.
//!
//! Promises: every way ends in the same input that the gateway would have made; what a record no
//! longer holds is said, never made up. Called by `cli::policy::eval` and `cli::policy::explain`.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Map;
use serde_json::Value;

use crate::adapters::journal::find;
use crate::adapters::reload::bundle;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::text_of;
use crate::cli::print;
use crate::cli::print::plain;
use crate::domain::audit::entry::Entry;
use crate::domain::identity::AuthMethod;
use crate::domain::pdp::Caller;
use crate::domain::pdp::Context;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::cases;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// What to decide, as `policies/schema/input.json` describes it.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["case", "decision", "tool", "list"])]
    input: Option<PathBuf>,
    /// A case of the bundle's `cases/*.yaml`.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["decision", "tool", "list"])]
    case: Option<String>,
    /// A recorded decision, or whatever else a record goes by; with --journal.
    #[arg(long, value_name = "ID", requires = "journal", conflicts_with_all = ["tool", "list"])]
    decision: Option<String>,
    /// Directory of the journal that has it.
    #[arg(long, value_name = "DIR", requires = "decision")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    call: Call,
}

/// A call in flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "A call")]
struct Call {
    /// The tool called.
    #[arg(long, value_name = "NAME", conflicts_with = "list", requires_all = ["tenant", "user"])]
    tool: Option<String>,
    /// Ask which tools are seen instead.
    #[arg(long, requires_all = ["tenant", "user"])]
    list: bool,
    /// The organisation it is made for.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Who calls.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A role of theirs in the organisation; several may be given.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A role of theirs in a team; several may be given.
    #[arg(long = "team", value_name = "TEAM=ROLE", value_parser = team)]
    teams: Vec<(String, String)>,
    /// A permission of theirs; several may be given.
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// They are a service account.
    #[arg(long)]
    service_account: bool,
    /// The arguments: JSON, or @FILE.
    #[arg(long, value_name = "JSON")]
    arguments: Option<String>,
    /// Only a preview is asked for.
    #[arg(long)]
    dry_run: bool,
    /// The client's workflow.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    workflow: String,
    /// When, such as 2026-11-20T18:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
}

fn team(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((team, role)) if !team.is_empty() && !role.is_empty() => Ok((team.to_owned(), role.to_owned())),
        _ => Err("say TEAM=ROLE, such as payments=lead".to_owned()),
    }
}

/// An input, and what its reader should know of it.
pub(super) struct Asked {
    pub(super) input: Input,
    /// The bundle's digest when it was recorded.
    pub(super) bundle_digest: Option<String>,
    /// The data's digest then.
    pub(super) data_digest: Option<String>,
    /// The outcome then.
    pub(super) outcome: Option<String>,
    /// JSON pointers into the input of what the record no longer holds.
    pub(super) dropped: Vec<String>,
    /// The tool of a list of this tool alone.
    only: Option<ToolFacts>,
}

impl Asked {
    fn plain(input: Input) -> Self {
        Self { input, bundle_digest: None, data_digest: None, outcome: None, dropped: Vec::new(), only: None }
    }

    /// A list of one tool is how the gateway asks whether a caller sees a tool at all before it
    /// looks at the call; why it is not seen is told by a call of it.
    pub(super) fn about_call(mut self) -> Self {
        let only = self.input.tools.as_ref().filter(|tools| tools.len() == 1).and_then(|tools| tools.values().next());
        if let Some(tool) = only.cloned() {
            self.input.phase = Phase::Call;
            self.input.tools = None;
            self.input.tool = Some(tool.clone());
            self.outcome = None;
            self.only = Some(tool);
        }
        self
    }

    /// What to know before reading on: how this differs from what was decided then.
    pub(super) fn notes(&self, bundle_digest: &str, data_digest: &str, outcome: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(tool) = &self.only {
            notes.push(format!(
                "what was asked is whether `{}` is seen; told here is what becomes of a call of it",
                tool.name
            ));
        }
        if !self.dropped.is_empty() {
            let places = self.dropped.join(", ");
            notes.push(format!("the record does not hold what stood at {places}; `$dropped` stands there instead, and rules that read it may differ"));
        }
        let other = |then: &Option<String>, now: &str| then.as_deref().is_some_and(|then| then != now);
        match (other(&self.bundle_digest, bundle_digest), other(&self.data_digest, data_digest)) {
            (true, true) => notes.push("it was decided by another bundle with other data".to_owned()),
            (true, false) => notes.push("it was decided by another bundle with the same data".to_owned()),
            (false, true) => notes.push("it was decided by the same bundle with other data".to_owned()),
            (false, false) => {}
        }
        if let Some(then) = self.outcome.as_deref().filter(|then| *then != outcome) {
            notes.push(format!("the outcome then was `{then}`"));
        }
        notes
    }
}

impl Question {
    /// Reads what is asked. `dir` is the bundle's folder, `tools` the tools that it decides about.
    pub(super) fn read(&self, dir: &Path, tools: &BTreeMap<String, ToolFacts>) -> Result<Asked, PolicyFault> {
        if let Some(path) = &self.input {
            let text = text_of(path)?;
            let wrong = |cause: serde_json::Error| PolicyFault::File {
                path: path.display().to_string(),
                message: format!("not an input: {cause}; see `policies/schema/input.json`"),
            };
            return serde_json::from_str(&text).map(Asked::plain).map_err(wrong);
        }
        if let Some(name) = &self.case {
            return of_case(name, dir, tools).map(Asked::plain);
        }
        if let (Some(id), Some(journal)) = (&self.decision, &self.journal) {
            return recorded(id, journal);
        }
        self.call.input(tools).map(Asked::plain)
    }
}

impl Call {
    fn input(&self, tools: &BTreeMap<String, ToolFacts>) -> Result<Input, PolicyFault> {
        let (Some(tenant), Some(user)) = (&self.tenant, &self.user) else {
            return Err(PolicyFault::Usage(
                "say what to decide: --input FILE, --case NAME, --decision ID --journal DIR, or --tenant, --user and --tool (or --list)".to_owned(),
            ));
        };
        let tool = self.tool.as_ref().map(|name| tool_of(name, tools)).transpose()?;
        let mut teams: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (team, role) in &self.teams {
            teams.entry(team.clone()).or_default().push(role.clone());
        }
        let now = self.at.map_or_else(|| jiff::Timestamp::from_second(crate::app::now_s()), Ok);
        let now = now.map_err(|cause| PolicyFault::Usage(cause.to_string()))?;
        Ok(Input {
            schema: 1,
            phase: if self.list { Phase::List } else { Phase::Call },
            caller: Caller {
                user: user.clone(),
                issuer: String::new(),
                tenant: tenant.clone(),
                roles: self.roles.clone(),
                teams,
                permissions: self.permissions.clone(),
                scopes: Vec::new(),
                client: String::new(),
                method: if self.service_account { AuthMethod::ServiceAccount } else { AuthMethod::Oauth },
            },
            tool,
            tools: self.list.then(|| tools.clone()),
            arguments: self.arguments()?,
            dry_run: self.dry_run,
            approval: None,
            facts: Vec::new(),
            response: None,
            context: Context {
                workflow: self.workflow.clone(),
                chain: Vec::new(),
                now_ms: now.as_millisecond(),
                now: now.to_string(),
            },
        })
    }

    fn arguments(&self) -> Result<Map<String, Value>, PolicyFault> {
        let text = match self.arguments.as_deref() {
            None => return Ok(Map::new()),
            Some(text) => match text.strip_prefix('@') {
                Some(path) => text_of(Path::new(path))?,
                None => text.to_owned(),
            },
        };
        serde_json::from_str(&text)
            .map_err(|cause| PolicyFault::Usage(format!("--arguments: not a JSON object: {cause}")))
    }
}

fn tool_of(name: &str, tools: &BTreeMap<String, ToolFacts>) -> Result<ToolFacts, PolicyFault> {
    tools.get(name).cloned().ok_or_else(|| {
        let close = tools.keys().filter(|tool| tool.contains(name) || name.contains(tool.as_str())).take(3);
        let close: Vec<String> = close.map(|tool| format!("`{tool}`")).collect();
        let hint = match (tools.is_empty(), close.is_empty()) {
            (true, _) => "; name a catalog with --catalog".to_owned(),
            (false, true) => String::new(),
            (false, false) => format!("; there is {}", close.join(", ")),
        };
        PolicyFault::Usage(format!("there is no tool `{}`{hint}", plain(name)))
    })
}

/// The input of a case, looked for in every table of the bundle.
fn of_case(name: &str, dir: &Path, tools: &BTreeMap<String, ToolFacts>) -> Result<Input, PolicyFault> {
    let wrong = |path: &str, message: String| PolicyFault::File { path: path.to_owned(), message };
    let files = bundle::files(dir).map_err(|faults| {
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        wrong(&dir.display().to_string(), words.join("; "))
    })?;
    let mut close = Vec::new();
    for (path, bytes) in files {
        if !cases::is_table(&path) {
            continue;
        }
        let table =
            cases::read(&path, &String::from_utf8_lossy(&bytes)).map_err(|fault| wrong(&path, fault.message))?;
        if let Some(case) = table.cases.iter().find(|case| case.name == name) {
            return table.input(case, tools).map_err(|message| wrong(&path, format!("case `{name}`: {message}")));
        }
        close.extend(table.cases.into_iter().map(|case| case.name).filter(|other| other.contains(name)));
    }
    let close: Vec<String> = close.iter().take(5).map(|name| format!("\n  {}", plain(name))).collect();
    let hint = if close.is_empty() { String::new() } else { format!("; did you mean{}", close.concat()) };
    Err(PolicyFault::Usage(format!("there is no case `{}` in `cases/*.yaml`{hint}", plain(name))))
}

/// A decision that a journal holds with its input.
fn recorded(id: &str, journal: &Path) -> Result<Asked, PolicyFault> {
    let unread = |path: PathBuf, cause: std::io::Error| PolicyFault::File {
        path: path.display().to_string(),
        message: cause.to_string(),
    };
    let (mut found, mut known) = (Vec::new(), false);
    let needle = Value::from(id).to_string();
    let take = |entry: Entry| {
        if entry.goes_by(id) {
            known = true;
            found.extend(decisions(&entry, id));
        }
    };
    find::each(journal, |line| line.contains(&needle), take).map_err(|(path, cause)| unread(path, cause))?;
    // A request may have been decided about more than once: in the call phase last.
    let best = found
        .into_iter()
        .enumerate()
        .max_by_key(|(at, (named, asked))| (*named, asked.input.phase == Phase::Call, *at));
    match best {
        Some((_, (_, asked))) => Ok(asked),
        None if known => Err(PolicyFault::Usage(format!(
            "the records of `{}` hold no input of a decision: it was left out, or is of another version",
            plain(id)
        ))),
        None if find::exists(journal).is_ok_and(|exists| exists) => {
            Err(PolicyFault::Usage(format!("no record goes by `{}`; `loopgate audit query` lists records", plain(id))))
        }
        None => Err(PolicyFault::Usage(format!("`{}` is no journal", journal.display()))),
    }
}

/// The decisions of a record that have their input, and whether the id is their own.
fn decisions(entry: &Entry, id: &str) -> Vec<(bool, Asked)> {
    let dropped: Vec<&str> = entry
        .at("/unmapped/loopgate/dropped")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut all = Vec::new();
    for (number, decision) in entry.decisions().iter().enumerate() {
        let text = |name: &str| decision.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(input) = decision.get("input").and_then(|input| serde_json::from_value::<Input>(input.clone()).ok())
        else {
            continue;
        };
        let within = format!("/decisions/{number}/input");
        let of_it = dropped.iter().filter_map(|pointer| pointer.strip_prefix(&within)).map(str::to_owned).collect();
        let asked = Asked {
            input,
            bundle_digest: text("bundle_digest"),
            data_digest: text("data_digest"),
            outcome: text("outcome"),
            dropped: of_it,
            only: None,
        };
        all.push((text("id").as_deref() == Some(id), asked));
    }
    all
}

/// Who asks for what, in one line.
pub(super) fn in_words(input: &Input) -> String {
    let caller = &input.caller;
    let mut who = vec![plain(&caller.user)];
    if caller.method == AuthMethod::ServiceAccount {
        who.push("service account".to_owned());
    }
    who.extend(caller.roles.iter().map(|role| plain(role)));
    who.extend(
        caller.teams.iter().flat_map(|(team, roles)| roles.iter().map(move |role| plain(&format!("{team}={role}")))),
    );
    let (user, rest) = who.split_first().map(|(user, rest)| (user.clone(), rest.join(", "))).unwrap_or_default();
    let holds = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
    let what = match (&input.tool, input.phase) {
        (_, Phase::List) => format!("lists {}", print::count(input.tools.as_ref().map_or(0, BTreeMap::len), "tool")),
        (Some(tool), Phase::Call) => {
            format!("calls {}{}", plain(&tool.name), if input.dry_run { ", as a dry run" } else { "" })
        }
        (Some(tool), Phase::Response) => format!("is answered by {}", plain(&tool.name)),
        (None, _) => "asks for nothing".to_owned(),
    };
    format!("{user}{holds} {what} in {}", plain(&caller.tenant))
}

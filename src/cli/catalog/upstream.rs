//! `loopgate catalog upstream list | accept`: what upstream MCP servers offer, and what of it is accepted.
//!
//! Promises: what is to be accepted is shown first, and accepted only under the digest of what was
//! shown; a running gateway takes it up by itself. Reads what the gateway has written down of its
//! servers and never speaks to one. Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings.
//! Called by `catalog`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::CommandFault;
use crate::adapters::reload;
use crate::adapters::reload::upstream::books::Books;
use crate::cli::print;
use crate::config;
use crate::config::Settings;
use crate::domain::approval::changes;
use crate::domain::canonical;
use crate::domain::catalog::upstream::Seen;
use crate::domain::catalog::upstream::Standing;
use crate::domain::upstream::Offer;
use crate::domain::upstream::pins::Pins;

/// Characters of a digest that are shown where it need not be typed.
const SHORT: usize = 12;

#[derive(Debug, Clone, clap::Subcommand)]
pub(super) enum Command {
    /// Show what every upstream server offered last, and how each definition stands.
    List {
        /// Settings file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Accept a new or changed definition, once you have seen the difference.
    Accept(Accept),
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Accept {
    /// Name of the server in the settings.
    #[arg(value_name = "SERVER")]
    server: String,
    /// Name of the tool, prompt or template there.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    name: Option<String>,
    /// Everything of the server that waits.
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// The digest that this command named when it showed the difference.
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub(super) fn run(command: Command) -> Result<ExitCode, CommandFault> {
    let file = match &command {
        Command::List { config, .. } | Command::Accept(Accept { config, .. }) => config.clone(),
    };
    let settings = match config::load(&file) {
        Ok(settings) => settings,
        Err(faults) => return Ok(super::super::check::report(&file, &faults, false)),
    };
    let shelf = match Shelf::read(&settings) {
        Ok(shelf) => shelf,
        Err(fault) => {
            print::failed(&fault);
            return Ok(ExitCode::from(2));
        }
    };
    match command {
        Command::List { json, .. } => list(&settings, &shelf, json),
        Command::Accept(accept) => shelf.accept(&accept),
    }
}

/// What is written down of every server.
struct Shelf {
    offers: BTreeMap<String, Arc<Offer>>,
    pins: BTreeMap<String, (Books, Pins)>,
    seen: Vec<Seen>,
}

impl Shelf {
    fn read(settings: &Settings) -> Result<Self, String> {
        let (mut offers, mut pins) = (BTreeMap::new(), BTreeMap::new());
        for upstream in &settings.upstreams {
            let (name, books) = (upstream.terms.server.clone(), Books::at(upstream.accepted.clone()));
            if let Some(offer) = books.last_offer()? {
                offers.insert(name.clone(), Arc::new(offer));
            }
            let accepted = books.read(&name)?;
            pins.insert(name, (books, accepted));
        }
        let catalog = reload::catalog(&settings.catalog).map_err(|faults| faults.join("; "))?;
        let terms: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.terms.clone()).collect();
        let accepted = pins.iter().map(|(name, (_, pins))| (name.clone(), pins.clone())).collect();
        let seen = catalog.join(&offers, &terms, &accepted).seen;
        Ok(Self { offers, pins, seen })
    }

    fn of<'s>(&'s self, server: &'s str) -> impl Iterator<Item = &'s Seen> {
        self.seen.iter().filter(move |seen| seen.server == server)
    }

    fn accept(&self, asked: &Accept) -> Result<ExitCode, CommandFault> {
        let server = &asked.server;
        let (Some((books, pins)), Some(offer)) = (self.pins.get(server), self.offers.get(server)) else {
            print::failed(&format!(
                "the gateway has not seen an upstream server `{server}` yet; start it, then look again"
            ));
            return Ok(ExitCode::from(1));
        };
        let waits = |seen: &&Seen| matches!(seen.standing, Standing::Changed { .. } | Standing::Awaits | Standing::Met);
        let named = |seen: &&Seen| asked.name.as_ref().is_none_or(|name| *name == seen.name);
        let waiting: Vec<&Seen> = self.of(server).filter(waits).filter(named).collect();
        if waiting.is_empty() {
            print::failed(&format!(
                "nothing of that name waits to be accepted; `loopgate catalog upstream list --config {}` shows what does",
                asked.config.display()
            ));
            return Ok(ExitCode::from(1));
        }
        let digest = match waiting.as_slice() {
            [only] => only.digest.clone(),
            all => {
                canonical::digest(all.iter().map(|seen| seen.digest.as_str()).collect::<Vec<_>>().join("\n").as_bytes())
            }
        };
        if asked.digest.as_ref() != Some(&digest) {
            let mut out = std::io::stdout().lock();
            for seen in &waiting {
                write!(out, "{}", difference(seen, pins, offer))?;
            }
            writeln!(out, "to accept exactly this, call again with --digest {digest}")?;
            if asked.digest.is_some() {
                print::failed("the digest given is not that of what waits now");
            }
            return Ok(ExitCode::from(1));
        }
        let mut pins = pins.clone();
        for seen in &waiting {
            if let Some(definition) = offer.definition(seen.kind, &seen.name) {
                pins.accept(seen.kind, &seen.name, definition);
            }
        }
        if let Err(fault) = books.write(&pins) {
            print::failed(&fault);
            return Ok(ExitCode::from(2));
        }
        print::line(&format!(
            "{} accepted; a running gateway takes it up by itself",
            print::count(waiting.len(), "definition")
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// What is new about a definition, for people to read before they accept it.
fn difference(seen: &Seen, pins: &Pins, offer: &Offer) -> String {
    let is = offer.definition(seen.kind, &seen.name).cloned().unwrap_or_default();
    let mut text = format!("{} {}\n", seen.kind.as_str(), print::plain(&seen.name));
    match pins.pin(seen.kind, &seen.name) {
        None => {
            // WHY: writing to a `String` cannot fail.
            let _infallible = writeln!(text, "  new: {}", print::plain_json(&is.to_string()));
        }
        Some(pin) => {
            for change in changes(&pin.definition, &is) {
                let [was, is] = [&change.was, &change.is].map(|value| print::plain_json(&value.to_string()));
                // WHY: writing to a `String` cannot fail.
                let _infallible = write!(text, "  {}\n    - {was}\n    + {is}\n", print::plain(&change.field));
            }
        }
    }
    text
}

fn list(settings: &Settings, shelf: &Shelf, as_json: bool) -> Result<ExitCode, CommandFault> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let servers: Vec<Value> =
            settings.upstreams.iter().map(|one| server_as_json(&one.terms.server, shelf)).collect();
        writeln!(out, "{:#}", json!({"servers": servers}))?;
        return Ok(ExitCode::SUCCESS);
    }
    if settings.upstreams.is_empty() {
        writeln!(out, "the settings name no upstream server")?;
    }
    for upstream in &settings.upstreams {
        let name = &upstream.terms.server;
        let Some(offer) = shelf.offers.get(name) else {
            writeln!(out, "{name}: not seen yet; the gateway writes down what it offers once it was reached")?;
            continue;
        };
        writeln!(
            out,
            "{name}: {}, {}, {}, spoken to in {}",
            print::count(offer.tools.len(), "tool"),
            print::count(offer.prompts.len(), "prompt"),
            print::count(offer.templates.len(), "template"),
            offer.era
        )?;
        for seen in shelf.of(name) {
            let more = match &seen.standing {
                Standing::Changed { was } => format!("  was {}", short(was)),
                Standing::Unfit { why } => format!("  {}", print::plain(why)),
                Standing::Accepted | Standing::Met | Standing::Awaits | Standing::Hidden => String::new(),
            };
            let (standing, kind) = (seen.standing.as_str(), seen.kind.as_str());
            writeln!(out, "  {standing:<9} {kind:<9} {:<40} {}{more}", print::plain(&seen.name), short(&seen.digest))?;
        }
        let waiting =
            shelf.of(name).filter(|seen| matches!(seen.standing, Standing::Changed { .. } | Standing::Awaits)).count();
        if waiting > 0 {
            writeln!(
                out,
                "  {}: loopgate catalog upstream accept {name} NAME",
                print::count(waiting, "definition") + " waiting"
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn server_as_json(name: &str, shelf: &Shelf) -> Value {
    let definitions: Vec<&Seen> = shelf.of(name).collect();
    let accepted = shelf.pins.get(name).map(|(books, _)| path(&books.accepted));
    json!({
        "server": name,
        "seen": shelf.offers.contains_key(name),
        "era": shelf.offers.get(name).map(|offer| offer.era.as_str()),
        "accepted": accepted,
        "definitions": definitions,
    })
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}

//! `loopgate catalog import | lint | show | upstream`: catalogs made, checked and read.
//!
//! Promises: an imported catalog loads, and everything that was derived, guessed or left out is
//! said on standard error; lint tells every fault at once; each command speaks JSON on demand.
//! Exit codes: 0 done, 1 the answer is no, 2 wrong usage or file, 3 not reachable. Never changes a
//! running gateway. Called by `main`.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

use super::print;
use crate::domain::catalog::BUILT_IN;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::CatalogFault;

mod import;
mod show;
mod source;
mod upstream;

/// Make, check and read catalogs of tools.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Make a catalog from an OpenAPI 3.0 or 3.1 document.
    ///
    /// Operations say what they are by the vendor extension `x-loopiq`; what it does not say is
    /// derived from the document or guessed on the safe side, and told on standard error.
    Import(Import),
    /// Check a catalog: what is wrong, and what will hurt.
    Lint {
        /// Catalog file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// See what upstream MCP servers offer, and accept what is new or has changed.
    #[command(subcommand)]
    Upstream(upstream::Command),
    /// Show one tool as the gateway understands it.
    Show {
        /// Name of the tool.
        #[arg(value_name = "TOOL")]
        tool: String,
        /// Catalog file; the built-in catalog if absent.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What `catalog import` takes.
#[derive(Debug, Clone, clap::Args)]
struct Import {
    /// File or URL of the document, JSON or YAML.
    #[arg(value_name = "OPENAPI")]
    document: String,
    /// Name of the backend in the gateway's config.
    #[arg(long, value_name = "NAME", default_value = "loopiq")]
    backend: String,
    /// Write the catalog here instead of to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Hold answers against the document's response schemas.
    #[arg(long)]
    output_schemas: bool,
    /// Write the catalog and the notes as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
enum CommandFault {
    /// A file cannot be read or written.
    #[error("cannot use `{}`: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// A URL gave no document.
    #[error("cannot fetch `{url}`: {cause}; check that it is served and reachable from here")]
    Fetch {
        /// The URL.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// The document is not one to import.
    #[error(transparent)]
    Import(#[from] import::ImportFault),
    /// Standard output is gone.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

impl CommandFault {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::File { .. } | Self::Import(_) | Self::Output(_) => ExitCode::from(2),
            Self::Fetch { .. } => ExitCode::from(3),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Import(args) => run_import(&args).await,
        Command::Lint { file, json } => lint(&file, json),
        Command::Upstream(command) => upstream::run(command),
        Command::Show { tool, file, json } => show(&tool, file.as_deref(), json),
    };
    match done {
        Ok(code) => code,
        // Whoever reads the answer has had enough of it.
        Err(CommandFault::Output(cause)) if cause.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => {
            print::failed(&fault.to_string());
            fault.exit_code()
        }
    }
}

async fn run_import(args: &Import) -> Result<ExitCode, CommandFault> {
    let text = source::read(&args.document).await?;
    let document = import::document(&text)?;
    let options = import::Options { backend: args.backend.clone(), output_schemas: args.output_schemas };
    let imported = import::import(&document, &options)?;
    let mut err = std::io::stderr().lock();
    for note in &imported.notes {
        writeln!(err, "{note}")?;
    }
    writeln!(err, "{}", imported.summary())?;
    let yaml = imported.to_yaml()?;
    let answer = if args.json {
        format!("{:#}\n", json!({ "catalog": imported.catalog, "notes": imported.notes }))
    } else {
        yaml
    };
    match &args.out {
        Some(path) => std::fs::write(path, answer).map_err(|cause| CommandFault::File { path: path.clone(), cause })?,
        None => std::io::stdout().lock().write_all(answer.as_bytes())?,
    }
    Ok(if imported.routes() == 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Reads a catalog file, or says what is wrong with it.
fn load(file: &Path) -> Result<Result<Catalog, Vec<CatalogFault>>, CommandFault> {
    let text = std::fs::read_to_string(file).map_err(|cause| CommandFault::File { path: file.to_owned(), cause })?;
    Ok(Catalog::from_yaml(&text))
}

fn lint(file: &Path, as_json: bool) -> Result<ExitCode, CommandFault> {
    let (loads, faults, tools) = match load(file)? {
        Ok(catalog) => (true, catalog.lint(), catalog.tools().count()),
        Err(faults) => (false, faults, 0),
    };
    let mut out = std::io::stdout().lock();
    if as_json {
        let answer = json!({ "loads": loads, "tools": tools, "findings": faults });
        writeln!(out, "{answer:#}")?;
    } else {
        for fault in &faults {
            writeln!(out, "{}\n    {}\n    remedy: {}", fault.path, fault.message, fault.remedy)?;
        }
        match (loads, faults.len()) {
            (true, 0) => writeln!(out, "{}, nothing to mend", print::count(tools, "tool"))?,
            (true, findings) => {
                let will = print::count(findings, "thing");
                writeln!(out, "{} load; {will} will hurt", print::count(tools, "tool"))?;
            }
            (false, findings) => writeln!(out, "the catalog does not load: {}", print::count(findings, "fault"))?,
        }
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn show(name: &str, file: Option<&Path>, as_json: bool) -> Result<ExitCode, CommandFault> {
    let loaded = match file {
        Some(file) => load(file)?,
        None => Catalog::from_yaml(BUILT_IN),
    };
    let catalog = match loaded {
        Ok(catalog) => catalog,
        Err(faults) => {
            let many = print::count(faults.len(), "fault");
            print::failed(&format!("the catalog does not load: {many}; `loopgate catalog lint FILE` names each"));
            return Ok(ExitCode::from(2));
        }
    };
    let Some(tool) = catalog.tool(name) else {
        print::failed(&format!("no tool `{name}`; {}", show::nearest(&catalog, name)));
        return Ok(ExitCode::from(1));
    };
    let mut out = std::io::stdout().lock();
    if as_json {
        let answer: Value = show::as_json(tool);
        writeln!(out, "{answer:#}")?;
    } else {
        write!(out, "{}", show::as_text(tool))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;

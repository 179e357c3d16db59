//! `loopgate demo`: sandbox and gateway in one process, in a scratch directory.
//!
//! Promises: runs on what is built in; every command it prints works when pasted; Ctrl-C leaves
//! nothing behind unless `--keep` says so, and a kept directory is gone on with. The demo's issuer is for this demo alone.

mod world;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::app;
use crate::app::AppFault;
use crate::app::stop::StopSignal;
use crate::config;
use crate::sandbox;

/// Sandbox and gateway in one process, with users and data to try.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where MCP clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    mcp: SocketAddr,
    /// Where operators connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
    /// Where the stand-in LoopIQ backend listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9400")]
    backend: SocketAddr,
    /// Keep settings, policies, keys and journal in this directory instead of a scratch one
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Let a changed policy wait for a replay report and a person (`policy.activation: gated`)
    #[arg(long)]
    gated: bool,
    /// Print one line of JSON when ready
    #[arg(long)]
    json: bool,
}

/// Runs until it is told to stop.
pub async fn run(args: Args) -> ExitCode {
    // WHY: a signal during the start must not leave the scratch directory behind.
    let mut signal = StopSignal::listen();
    let scratch = match Scratch::new(args.keep.as_deref()) {
        Ok(scratch) => scratch,
        Err(cause) => return failed(&format!("its directory cannot be made: {cause}")),
    };
    let started = tokio::select! {
        started = start(&args, &scratch.dir) => started,
        () = signal.told() => return ExitCode::from(super::DONE),
    };
    match started {
        Ok(demo) => {
            if args.json {
                print::line(&demo.json().to_string());
            } else {
                print::line(&demo.text(args.keep.is_some()));
            }
            signal.told().await;
            tokio::select! {
                () = demo.stop() => {}
                // Whoever presses Ctrl-C twice does not want to wait for the calls under way.
                () = signal.told() => {}
            }
            ExitCode::from(super::DONE)
        }
        Err(cause) => failed(&cause),
    }
}

fn failed(cause: &str) -> ExitCode {
    print::failed(&format!("the demo cannot start: {cause}"));
    ExitCode::from(super::UNREACHABLE)
}

/// The demo's directory; taken away at the end unless it is kept.
struct Scratch {
    dir: PathBuf,
    kept: bool,
}

impl Scratch {
    /// A directory that only its owner may enter, for it holds keys and tokens.
    fn new(keep: Option<&Path>) -> std::io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        if let Some(dir) = keep {
            builder.recursive(true).create(dir)?;
            return Ok(Self { dir: dir.canonicalize()?, kept: true });
        }
        let base = std::env::temp_dir().canonicalize()?;
        let name = format!("loopgate-demo-{}", std::process::id());
        // One that is there already belongs to somebody else, perhaps to a demo that was killed.
        let names = std::iter::once(name.clone()).chain((1..100).map(|more| format!("{name}-{more}")));
        for name in names {
            let dir = base.join(name);
            match builder.create(&dir) {
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { dir, kept: false }),
            }
        }
        Err(std::io::Error::other(format!("{} is full of demos that were killed", base.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept
            && let Err(cause) = std::fs::remove_dir_all(&self.dir)
        {
            print::failed(&format!("{} could not be taken away: {cause}", self.dir.display()));
        }
    }
}

/// A running demo.
struct Demo {
    gateway: app::Running,
    backend: sandbox::Running,
    dir: PathBuf,
    users: Vec<world::User>,
}

async fn start(args: &Args, dir: &Path) -> Result<Demo, String> {
    let issuers = world::Issuers::open(dir)?;
    world::unpack(dir)?;
    let own = app::keys::OwnKeys::open(&dir.join("keys")).map_err(|fault| fault.to_string())?;
    let backend = sandbox::start(sandbox::Settings {
        listen: args.backend,
        store: sandbox::Store::Memory,
        trust: Some(own.ring.jwks(app::now_s())),
    })
    .await
    .map_err(|fault| fault.to_string())?;
    let file = dir.join("gateway.yaml");
    let text = world::settings(args.mcp, args.admin, backend.addr(), args.gated);
    std::fs::write(&file, text).map_err(|cause| cause.to_string())?;
    let settings =
        config::load(&file).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    app::log(&settings.log);
    let gateway = app::start(settings).await.map_err(|fault| in_demo(&fault))?;
    if let Some(faults) = gateway.undecided() {
        gateway.stop().await;
        return Err(format!("the rules in {} were refused: {}", dir.display(), faults.join(" | ")));
    }
    let users = issuers.users(dir, gateway.clock())?;
    Ok(Demo { gateway, backend, dir: dir.to_owned(), users })
}

/// A fault of the start in the demo's own names: its users never wrote settings.
fn in_demo(fault: &AppFault) -> String {
    let words = fault.to_string();
    match fault {
        AppFault::Listen { .. } => {
            words.replace("`listen.", "`--").replace("address or", "address, port 0 for a free one, or")
        }
        _ => words,
    }
}

impl Demo {
    async fn stop(self) {
        self.gateway.stop().await;
        self.backend.stop().await;
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "mcp": self.gateway.mcp_url(),
            "admin": self.gateway.admin_url(),
            "backend": format!("http://{}", self.backend.addr()),
            "dir": self.dir,
            "pid": std::process::id(),
            "users": self.users,
        })
    }

    fn text(&self, kept: bool) -> String {
        let mut out = format!(
            "loopgate demo is running.\n\n  MCP      {}\n  health   http://{}/readyz\n  backend  http://{} (stand-in LoopIQ)\n  files    {}{}\n\nusers, each with a token in {}/tokens:\n",
            self.gateway.mcp_url(),
            self.gateway.admin,
            self.backend.addr(),
            self.dir.display(),
            if kept { "" } else { " (taken away at the end)" },
            self.dir.display(),
        );
        let users = self
            .users
            .iter()
            .map(|user| format!("  {:<14}{:<24}{}\n", user.user, user.roles.join(", "), user.tenants.join(", ")));
        out.extend(users);
        out + &world::try_these(&self.gateway.mcp_url(), self.gateway.admin, &self.dir)
    }
}

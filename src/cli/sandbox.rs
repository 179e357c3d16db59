//! `loopgate sandbox`: the stand-in LoopIQ backend alone.
//!
//! Promises: one line on standard output when it listens, a graceful stop on Ctrl-C or SIGTERM,
//! exit code 2 for a wrong option and 3 when the address or the store cannot be had. Never does
//! more than start and stop `sandbox`. Called by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::print;
use crate::app::stop::StopSignal;
use crate::sandbox;
use crate::sandbox::SandboxError;

/// Run the stand-in LoopIQ backend alone.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9400")]
    pub listen: SocketAddr,
    /// SQLite file for the records, seeded when new; without it they live in memory.
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// JWKS file; only callers with a token signed by one of its keys are believed.
    #[arg(long, value_name = "JWKS_FILE")]
    pub trust: Option<PathBuf>,
}

/// Why the command ended early, with the words for the terminal and the exit code.
struct Ending {
    words: String,
    code: u8,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: Args) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            print::failed(&ending.words);
            ExitCode::from(ending.code)
        }
    }
}

async fn serve(args: Args) -> Result<(), Ending> {
    let trust = args.trust.as_ref().map(read_keys).transpose()?;
    let store = args.store.map_or(sandbox::Store::Memory, sandbox::Store::File);
    let settings = sandbox::Settings { listen: args.listen, store, trust };
    let running = sandbox::start(settings).await.map_err(|error| Ending::of(&error))?;
    // Before the line, so that whoever has read it can stop it.
    let mut signal = StopSignal::listen();
    let line = format!("sandbox LoopIQ listens on http://{0} (API document: http://{0}/openapi.json)", running.addr());
    print::line(&line);
    signal.told().await;
    running.stop().await;
    Ok(())
}

fn read_keys(path: &PathBuf) -> Result<Value, Ending> {
    let named = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Ending { words: format!("cannot read the keys in `{named}`: {error}"), code: 2 })?;
    serde_json::from_str(&text)
        .map_err(|error| Ending { words: format!("`{named}` is not a JSON Web Key Set: {error}"), code: 2 })
}

impl Ending {
    fn of(error: &SandboxError) -> Self {
        let code = match error {
            SandboxError::Trust(_) => 2,
            SandboxError::Listen { .. } | SandboxError::Storage(_) => 3,
            SandboxError::Seed(_) | SandboxError::Schema { .. } => 1,
        };
        Self { words: error.to_string(), code }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Line::try_parse_from(["sandbox"].iter().chain(words)).unwrap().args
    }

    #[test]
    fn without_options_it_listens_where_the_manual_says_and_keeps_nothing() {
        let args = args(&[]);
        assert_eq!(args.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 9400)));
        assert_eq!((args.store, args.trust), (None, None));
    }

    #[tokio::test]
    async fn keys_that_cannot_be_read_or_used_are_a_usage_error() {
        let scratch = tempfile::tempdir().unwrap();
        let cases = [("none.json", None), ("text.json", Some("keys")), ("empty.json", Some("{\"keys\": []}"))];
        for (name, content) in cases {
            let path = scratch.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let args = Args { trust: Some(path), ..args(&["--listen", "127.0.0.1:0"]) };
            let ending = serve(args).await.err().unwrap();
            assert_eq!(ending.code, 2, "{}", ending.words);
        }
    }

    #[tokio::test]
    async fn a_taken_address_and_a_store_that_is_none_are_named() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let ending = serve(args(&["--listen", &address])).await.err().unwrap();
        assert_eq!(ending.code, 3);
        assert!(ending.words.contains(&address), "{}", ending.words);
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("notes.txt");
        std::fs::write(&path, "these are no records, but more than a hundred bytes of something else ".repeat(4))
            .unwrap();
        let store = path.to_str().unwrap();
        let ending = serve(args(&["--listen", "127.0.0.1:0", "--store", store])).await.err().unwrap();
        assert_eq!(ending.code, 3, "{}", ending.words);
    }
}

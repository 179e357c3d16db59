//! (room to come)
#[derive(Debug, clap::Args)] pub struct Args { #[command(subcommand)] c: C }
#[derive(Debug, clap::Subcommand)] enum C { CheckChild }
pub fn run(_: Args) -> std::process::ExitCode { std::process::ExitCode::from(u8::from(crate::adapters::reload::bundle::serve_child(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()).is_err())) }

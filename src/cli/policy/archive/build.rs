//! `loopgate policy bundle build`: a checked folder as one file.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::Vouching;
use super::now;
use super::print_json;
use super::signer::Signer;
use super::tell;
use super::told_of;
use super::vouch;
use super::with;
use super::write_archive;
use crate::adapters::reload::bundle;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::print_faults;
use crate::cli::policy::tools;
use crate::cli::print;
use crate::domain::pdp::archive::About;
use crate::domain::pdp::archive::Archive;
use crate::domain::rollout::BundleId;

#[derive(Debug, Args)]
pub(super) struct Build {
    #[command(flatten)]
    place: Place,
    /// File to write.
    #[arg(long, short, value_name = "FILE", default_value = "bundle.tar.gz")]
    out: PathBuf,
    /// What people call this state of the policies, such as a commit [default: its digests].
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Its place in the order of bundles: gateways take none that is before the last [default: seconds since 1970].
    #[arg(long, value_name = "N")]
    serial: Option<u64>,
    /// When it is built (RFC 3339); the same time gives the same bytes [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Sign it with this private key (PEM).
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    vouching: Vouching,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(build: &Build, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let Vouching { key_id, scope, issuer } = &build.vouching;
    if build.sign.is_none() && [key_id, scope, issuer].iter().any(|said| !said.is_empty()) {
        let words = "--key-id, --scope and --issuer are parts of a signature; name the key with --sign";
        return Err(PolicyFault::Usage(words.to_owned()));
    }
    let signer = build.sign.as_ref().map(|path| Signer::read(path)).transpose()?;
    let tools = tools(&build.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(bundle::load_checked(exe, &build.place.dir, &tools));
    let bundle = match checked {
        Ok(bundle) => bundle,
        Err(faults) => return print_faults(&faults, out),
    };
    let at = build.at.unwrap_or_else(now);
    let own = || BundleId::new(bundle.digest(), bundle.data_digest()).revision();
    let about = About {
        revision: build.revision.clone().unwrap_or_else(own),
        serial: build.serial.or_else(|| u64::try_from(at.as_second()).ok()),
        built_at: Some(at.to_string()),
    };
    let mut archive = Archive::of(&bundle, &about)?;
    if let Some(signer) = &signer {
        vouch(&mut archive, signer, &build.vouching, at)?;
    }
    // What is written has been read back as the gateway will read it.
    let opened = archive
        .open()
        .map_err(|faults| PolicyFault::No(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let bytes = write_archive(&archive, &build.out)?;
    if build.json {
        let algorithm = signer.as_ref().map(Signer::algorithm);
        let told = json!({"file": build.out, "bytes": bytes, "algorithm": algorithm});
        return print_json(&with(told, told_of(&opened)), out);
    }
    writeln!(out, "wrote {} ({})", build.out.display(), print::count(bytes, "byte"))?;
    tell(&opened, out)?;
    match (&build.sign, &signer) {
        (Some(key), Some(signer)) => writeln!(out, "signed with {} ({})", key.display(), signer.algorithm())?,
        _ => writeln!(out, "not signed: `loopgate policy bundle sign {} --key KEY`", build.out.display())?,
    }
    if tools.is_empty() {
        writeln!(out, "tried without tools: name a catalog with --catalog to try list and call of each")?;
    }
    Ok(())
}

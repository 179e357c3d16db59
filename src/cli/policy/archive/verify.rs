//! `loopgate policy bundle verify`: who signed exactly this.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::print_json;
use super::refused;
use super::tell;
use super::told_of;
use super::unpacked;
use super::with;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::text_of;
use crate::cli::print;
use crate::domain::pdp::archive::keys::TrustedKey;
use crate::domain::pdp::archive::sign::Signed;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The bundle.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key (PEM) of somebody who may sign; several may be given.
    #[arg(long = "key", value_name = "PUB", required = true)]
    keys: Vec<PathBuf>,
    /// The scope that it must be signed for.
    #[arg(long, value_name = "SCOPE", default_value = "", hide_default_value = true)]
    scope: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(verify: &Verify, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let mut keys = Vec::new();
    for path in &verify.keys {
        let name = path.display().to_string();
        let key = TrustedKey::from_pem(&name, &text_of(path)?);
        keys.push(key.map_err(|bad| PolicyFault::File { path: bad.name, message: bad.what.to_owned() })?);
    }
    let archive = unpacked(&verify.file)?;
    let outcome = archive.verify(&keys, &verify.scope).and_then(|signed| Ok((signed, archive.open()?)));
    let (signed, opened) = match outcome {
        Ok(both) => both,
        Err(faults) => return refused(&faults, "do not trust this bundle", verify.json, out),
    };
    if verify.json {
        return print_json(&with(json!({"ok": true, "signed": signed}), told_of(&opened)), out);
    }
    writeln!(out, "ok: signed by the owner of {}", words(&signed))?;
    tell(&opened, out)
}

fn words(signed: &Signed) -> String {
    let said = |of: &Option<String>| of.as_ref().map(|text| print::plain(text));
    let at = signed.issued_at.and_then(|at| Timestamp::from_second(at).ok());
    let scope = Some(&signed.scope).filter(|scope| !scope.is_empty());
    [
        Some(format!("{} ({})", signed.key, signed.algorithm)),
        said(&signed.key_id).map(|id| format!("key id {id}")),
        said(&signed.issuer).map(|issuer| format!("issuer {issuer}")),
        at.map(|at| format!("at {at}")),
        scope.map(|scope| format!("for scope {}", print::plain(scope))),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}

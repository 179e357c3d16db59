//! `loopgate policy bundle`: archives in OPA's format, built, signed, verified and shown.
//!
//! Promises: nothing is built that the gateway would not load; the same folder at the same time gives
//! the same bytes; a file is written whole or not at all, and no key is ever overwritten; every no of
//! `verify` has a code, its file and a remedy. Talks to no gateway and no server. Called by `cli::policy`.

mod build;
mod keygen;
mod signer;
mod verify;

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use self::signer::Signer;
use crate::adapters::reload::bundle;
use crate::cli::policy::PolicyFault;
use crate::cli::print;
use crate::domain::pdp::archive::Archive;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Opened;
use crate::domain::pdp::archive::sign::Claims;

/// Build, sign and verify bundles in OPA's format.
#[derive(Debug, Args)]
pub(super) struct Bundles {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a folder and make a bundle of it.
    Build(Box<build::Build>),
    /// Sign a bundle, in place of a signature that it may have.
    Sign(Sign),
    /// Say whether somebody who is trusted signed exactly this bundle.
    Verify(verify::Verify),
    /// Say what is in a bundle. Believes what it says of itself.
    Show(Show),
    /// Make a key to sign with. `openssl genpkey -algorithm ed25519` does too.
    Keygen(keygen::Keygen),
}

/// Who signs, and for what.
#[derive(Debug, Args)]
struct Vouching {
    /// What the signer calls the key, as in `kid`.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_id: String,
    /// What the bundle is for; gateways with another `policy.bundle.scope` refuse it.
    #[arg(long, value_name = "SCOPE", default_value = "", hide_default_value = true)]
    scope: String,
    /// Who signs, for people to read.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    issuer: String,
}

#[derive(Debug, Args)]
struct Sign {
    /// The bundle.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Private key (PEM): Ed25519, P-256 or RSA.
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    #[command(flatten)]
    vouching: Vouching,
    /// File to write instead of FILE.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// When it is signed (RFC 3339) [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The bundle.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(bundles: &Bundles, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    match &bundles.command {
        Command::Build(build) => build::run(build, exe, out),
        Command::Sign(sign) => resign(sign, out),
        Command::Verify(verify) => verify::run(verify, out),
        Command::Show(show) => describe(show, out),
        Command::Keygen(keygen) => keygen::run(keygen, out),
    }
}

fn resign(sign: &Sign, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let signer = Signer::read(&sign.key)?;
    let mut archive = unpacked(&sign.file)?;
    // What cannot be opened cannot decide, so nobody should vouch for it.
    let opened = match archive.open() {
        Ok(opened) => opened,
        Err(faults) => return refused(&faults, "nothing was signed", sign.json, out),
    };
    vouch(&mut archive, &signer, &sign.vouching, sign.at.unwrap_or_else(now))?;
    let to = sign.out.as_ref().unwrap_or(&sign.file);
    let bytes = write_archive(&archive, to)?;
    let by = format!("signed with {} ({})", sign.key.display(), signer.algorithm());
    if sign.json {
        let told = json!({"file": to, "bytes": bytes, "algorithm": signer.algorithm()});
        return print_json(&with(told, told_of(&opened)), out);
    }
    writeln!(out, "wrote {} ({}), {by}", to.display(), print::count(bytes, "byte"))?;
    tell(&opened, out)
}

fn describe(show: &Show, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let archive = unpacked(&show.file)?;
    let opened = match archive.open() {
        Ok(opened) => opened,
        Err(faults) => return refused(&faults, "the gateway would not load it", show.json, out),
    };
    if show.json {
        let files: Vec<Value> = archive.sizes().map(|(path, bytes)| json!({"path": path, "bytes": bytes})).collect();
        return print_json(&with(json!({"signed": archive.is_signed(), "files": files}), told_of(&opened)), out);
    }
    tell(&opened, out)?;
    let signed =
        if archive.is_signed() { "signed; who did is for `policy bundle verify` to say" } else { "not signed" };
    writeln!(out, "{signed}")?;
    for (path, bytes) in archive.sizes() {
        writeln!(out, "{bytes:>9}  {}", print::plain(path))?;
    }
    Ok(())
}

/// Signs an archive with a key.
fn vouch(archive: &mut Archive, signer: &Signer, vouching: &Vouching, at: Timestamp) -> Result<(), PolicyFault> {
    let claims = Claims {
        scope: vouching.scope.clone(),
        issuer: vouching.issuer.clone(),
        key_id: vouching.key_id.clone(),
        issued_at: at.as_second(),
    };
    archive.sign(&claims, signer.algorithm(), |message| signer.sign(message))
}

impl From<ArchiveFault> for PolicyFault {
    fn from(fault: ArchiveFault) -> Self {
        Self::No(fault.to_string())
    }
}

fn unpacked(path: &Path) -> Result<Archive, PolicyFault> {
    if let Err(cause) = File::open(path) {
        return Err(PolicyFault::File { path: path.display().to_string(), message: cause.to_string() });
    }
    bundle::archive(path)
        .map_err(|faults| PolicyFault::No(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Prints every fault; `so` is what follows from them.
fn refused(faults: &[ArchiveFault], so: &str, json: bool, out: &mut dyn Write) -> Result<(), PolicyFault> {
    if json {
        let told: Vec<Value> = faults
            .iter()
            .map(|ArchiveFault { code, fault }| {
                json!({"code": code, "file": fault.path, "line": fault.line, "message": fault.message, "remedy": fault.remedy})
            })
            .collect();
        print_json(&json!({"ok": false, "faults": told}), out)?;
    } else {
        for fault in faults {
            writeln!(out, "{}", print::plain(&fault.to_string()))?;
        }
    }
    Err(PolicyFault::No(format!("{}; {so}", print::count(faults.len(), "fault"))))
}

/// What a bundle says of itself, for people.
fn tell(opened: &Opened, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let Opened { bundle, about, roots } = opened;
    let revision = if about.revision.is_empty() { "(none)".to_owned() } else { print::plain(&about.revision) };
    writeln!(out, "revision {revision}")?;
    match (about.serial, &about.built_at) {
        (Some(serial), Some(at)) => writeln!(out, "serial   {serial}, built at {}", print::plain(at))?,
        (Some(serial), None) => writeln!(out, "serial   {serial}")?,
        (None, _) => writeln!(out, "serial   (none): gateways can only tell that it is older by having had it")?,
    }
    writeln!(out, "bundle   {}", bundle.digest())?;
    writeln!(out, "data     {}", bundle.data_digest())?;
    let roots = roots.as_ref().map_or_else(String::new, |roots| print::plain(&roots.join(", ")));
    let roots = if roots.is_empty() { "(all)".to_owned() } else { roots };
    writeln!(out, "roots    {}", print::wrapped(&roots, 9))?;
    Ok(())
}

/// The same for programs.
fn told_of(opened: &Opened) -> Value {
    let Opened { bundle, about, roots } = opened;
    json!({
        "revision": about.revision,
        "serial": about.serial,
        "built_at": about.built_at,
        "bundle": bundle.digest(),
        "data": bundle.data_digest(),
        "roots": roots,
    })
}

/// Members of both.
fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(into), Value::Object(from)) = (&mut one, other) {
        into.extend(from);
    }
    one
}

fn print_json(value: &Value, out: &mut dyn Write) -> Result<(), PolicyFault> {
    Ok(writeln!(out, "{value:#}")?)
}

fn now() -> Timestamp {
    Timestamp::from_second(crate::app::now_s()).unwrap_or_default()
}

/// Writes an archive; says how many bytes it has.
fn write_archive(archive: &Archive, path: &Path) -> Result<usize, PolicyFault> {
    let bytes = archive.pack()?;
    let fault = |cause: io::Error| PolicyFault::File { path: path.display().to_string(), message: cause.to_string() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| fault(io::ErrorKind::IsADirectory.into()))?;
    // Aside first: whoever serves the file never serves half of it.
    let aside = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = File::create(&aside)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|cause| {
        let _left = std::fs::remove_file(&aside).is_err();
        fault(cause)
    })?;
    Ok(bytes.len())
}

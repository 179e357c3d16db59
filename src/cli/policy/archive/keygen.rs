//! `loopgate policy bundle keygen`: a key to sign with, for those who have none.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use clap::Args;
use serde_json::json;

use super::print_json;
use crate::cli::policy::PolicyFault;

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// File for the private key; the public one goes beside it, ending in `.pub`; neither may exist
    #[arg(long, short, value_name = "FILE", default_value = "bundle.key")]
    out: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(keygen: &Keygen, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let broken = |_| PolicyFault::Io(io::Error::other("the system gives no randomness to make a key of"));
    let pair = Ed25519KeyPair::generate().map_err(broken)?;
    let private = pair.to_pkcs8v1().map_err(broken)?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(broken)?;
    let public = keygen.out.with_extension("pub");
    if public == keygen.out {
        let words = "--out is for the private key; name it otherwise than `.pub`";
        return Err(PolicyFault::Usage(words.to_owned()));
    }
    write(&public, 0o644, "PUBLIC KEY", der.as_ref())?;
    if let Err(fault) = write(&keygen.out, 0o600, "PRIVATE KEY", private.as_ref()) {
        // A public key without its private one is good for nothing.
        let _left = std::fs::remove_file(&public).is_err();
        return Err(fault);
    }
    if keygen.json {
        return print_json(&json!({"private": keygen.out, "public": public, "algorithm": "EdDSA"}), out);
    }
    writeln!(out, "private key {}: keep it where bundles are signed, and nowhere else", keygen.out.display())?;
    writeln!(out, "public key  {}: name it in `policy.bundle.keys` of every gateway", public.display())?;
    Ok(())
}

fn write(path: &Path, mode: u32, tag: &str, der: &[u8]) -> Result<(), PolicyFault> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let text = pem::encode_config(&pem::Pem::new(tag, der), config);
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|cause| PolicyFault::File { path: path.display().to_string(), message: cause.to_string() })
}

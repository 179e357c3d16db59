//! `loopgate token`: a development issuer and its tokens, for trying things out.
//!
//! Promises: signs only with a key that `token init` or `demo` made, so that no production key
//! can be used to make up tokens; says so when the token it was asked for would be refused.
//! Never talks to a gateway. Called by `cli`.

mod approval;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::rand;
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::adapters::keys::dev;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::dev::{DevClaims, DevIssuer};
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::signing::{SigningKey, SigningKeyFault};
use crate::domain::identity::token::{Issuer, authenticate};

/// Make tokens for development.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a development issuer: a key, its description and its public key set.
    Init(Init),
    /// Print a token of a development issuer.
    Mint(Box<Mint>),
    /// Print an approval of a development issuer, as LoopIQ would sign one.
    Approval(approval::Approval),
}

#[derive(Debug, Args)]
struct Init {
    /// Folder to put the three files in.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// `iss` of its tokens.
    #[arg(long, value_name = "ISS", default_value = "http://localhost/loopgate-dev")]
    issuer: String,
    /// `aud` of its tokens: the URL that clients dial.
    #[arg(long, value_name = "AUD", default_value = "http://127.0.0.1:8080/mcp")]
    audience: String,
}

#[derive(Debug, Args)]
struct Mint {
    /// The key file that `token init` or `demo` made.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The user.
    #[arg(long, value_name = "USER")]
    user: String,
    /// An organisation the user belongs to; several may be given
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// The organisation the user works for at the moment.
    #[arg(long, value_name = "TENANT")]
    active_tenant: Option<String>,
    /// An organisation role; several may be given
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Roles in a team; several may be given
    #[arg(long = "team", value_name = "TEAM=ROLE,ROLE", value_parser = team)]
    teams: Vec<(String, Vec<String>)>,
    /// A direct permission; several may be given
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// An OAuth scope; several may be given
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// The OAuth client.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// `iss`, when it is not to be the issuer's own.
    #[arg(long, value_name = "ISS")]
    issuer: Option<String>,
    /// `aud`, when it is not to be the issuer's own.
    #[arg(long, value_name = "AUD")]
    audience: Option<String>,
    /// How long the token is good; a negative time makes one that has expired.
    #[arg(long, value_name = "TIME", default_value = "1h", allow_hyphen_values = true)]
    ttl: SignedDuration,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// The issuer's files.
    #[error(transparent)]
    Files(#[from] dev::DevFault),
    /// The key cannot be made.
    #[error("no key could be made: {0}")]
    Key(#[from] SigningKeyFault),
    /// The system gave no random bytes.
    #[error("no key could be made: the system gave no random bytes")]
    Random,
    /// A gateway would refuse the token.
    #[error("a gateway would refuse that token: {0}; correct the arguments")]
    Refused(AuthFault),
    /// The arguments that are to be approved.
    #[error("`--arguments`: {0}")]
    Arguments(String),
    /// Standard output is gone.
    #[error("the answer could not be written: {0}")]
    Out(#[from] io::Error),
}

/// Runs the command at `now_s` (seconds since the epoch), writing what it has to say to `out`.
pub fn run(token: &Token, now_s: i64, out: &mut dyn Write) -> Result<(), TokenFault> {
    match &token.command {
        Command::Init(init) => init_issuer(init, out),
        Command::Mint(mint) => writeln!(out, "{}", minted(mint, now_s)?).map_err(TokenFault::Out),
        Command::Approval(approval) => writeln!(out, "{}", approval.signed(now_s)?).map_err(TokenFault::Out),
    }
}

/// A development issuer with a fresh key.
pub fn fresh_issuer(issuer: &str, audience: &str) -> Result<DevIssuer, TokenFault> {
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| TokenFault::Random)?;
    let key = SigningKey::generate(&random)?;
    Ok(DevIssuer { key, issuer: issuer.to_owned(), audience: audience.to_owned() })
}

fn init_issuer(init: &Init, out: &mut dyn Write) -> Result<(), TokenFault> {
    let files = dev::save(&init.dir, &fresh_issuer(&init.issuer, &init.audience)?)?;
    writeln!(out, "key:      {}", files.key.display())?;
    writeln!(out, "key set:  {}", files.jwks.display())?;
    writeln!(out, "issuer:   {}", init.issuer)?;
    writeln!(out, "audience: {}", init.audience)?;
    writeln!(out, "next:     loopgate token mint --key {} --user USER --tenant TENANT", files.key.display())?;
    Ok(())
}

fn minted(mint: &Mint, now_s: i64) -> Result<String, TokenFault> {
    let mut issuer = dev::load(&mint.key)?;
    if let Some(iss) = &mint.issuer {
        issuer.issuer.clone_from(iss);
    }
    if let Some(aud) = &mint.audience {
        issuer.audience.clone_from(aud);
    }
    let claims = DevClaims {
        user: mint.user.clone(),
        tenants: mint.tenants.clone(),
        active_tenant: mint.active_tenant.clone(),
        roles: mint.roles.clone(),
        teams: mint.teams.iter().cloned().collect(),
        permissions: mint.permissions.clone(),
        scopes: mint.scopes.clone(),
        client: mint.client.clone(),
    };
    let token = issuer.mint(&claims, now_s, mint.ttl.as_secs(), &Uuid::now_v7().to_string());
    match would_pass(&issuer, &token, now_s) {
        // An expired token is what somebody asks for who tries how one is refused.
        Ok(()) | Err(AuthFault::Expired) => Ok(token),
        Err(fault) => Err(TokenFault::Refused(fault)),
    }
}

fn would_pass(issuer: &DevIssuer, token: &str, now_s: i64) -> Result<(), AuthFault> {
    let settings = issuer.settings("development", AuthMethod::Oauth);
    authenticate(token, &[as_configured(issuer, settings)], now_s).map(|_| ())
}

/// The issuer as a gateway would know it by these settings.
fn as_configured(issuer: &DevIssuer, settings: IssuerSettings) -> Issuer {
    let keys = KeySet::from_jwks(issuer.jwks().to_string().as_bytes(), &settings.algs).ok().map(Arc::new);
    Issuer { settings: Arc::new(settings), keys }
}

fn team(text: &str) -> Result<(String, Vec<String>), String> {
    let (team, roles) = text.split_once('=').ok_or("write it as team=role,role")?;
    let roles: Vec<String> = roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect();
    if team.is_empty() || roles.is_empty() {
        return Err("write it as team=role,role".to_owned());
    }
    Ok((team.to_owned(), roles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const NOW: i64 = 1_800_000_000;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: Token,
    }

    fn said(arguments: &[&str]) -> Result<String, TokenFault> {
        let line = Line::parse_from([&["token"], arguments].concat());
        let mut out = Vec::new();
        run(&line.token, NOW, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_minted_token_says_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("keys");
        let text = said(&["init", "--dir", place.to_str().unwrap()]).unwrap();
        assert!(text.contains("loopgate token mint --key"), "{text}");
        let key = place.join(dev::KEY_FILE);
        let token = said(&[
            "mint",
            "--key",
            key.to_str().unwrap(),
            "--user",
            "ada",
            "--tenant",
            "org_gcn",
            "--tenant",
            "org_nordbank",
            "--active-tenant",
            "org_gcn",
            "--role",
            "release_manager",
            "--team",
            "payments=lead,member",
            "--permission",
            "p",
            "--scope",
            "tools:read",
            "--client",
            "c",
            "--ttl",
            "30m",
        ])
        .unwrap();
        let issuer = dev::load(&key).unwrap();
        let settings = Arc::new(issuer.settings("dev", AuthMethod::Oauth));
        let keys = std::fs::read(place.join(dev::JWKS_FILE)).unwrap();
        let keys = Some(Arc::new(KeySet::from_jwks(&keys, &settings.algs).unwrap()));
        let ada = authenticate(token.trim_end(), &[Issuer { settings, keys }], NOW).unwrap();
        assert_eq!(ada.user, "ada");
        assert_eq!(ada.tenants, ["org_gcn", "org_nordbank"]);
        assert_eq!(ada.active_tenant.as_deref(), Some("org_gcn"));
        assert_eq!(ada.roles, ["release_manager"]);
        assert_eq!(ada.teams["payments"], ["lead", "member"]);
        assert_eq!((ada.permissions, ada.scopes), (vec!["p".to_owned()], vec!["tools:read".to_owned()]));
        assert_eq!(ada.client.as_deref(), Some("c"));
        assert_eq!(ada.expires_at, NOW + 1800);
    }

    #[test]
    fn a_key_that_is_not_a_development_issuers_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let pem = SigningKey::generate(&[1; 32]).unwrap().to_pkcs8_pem().unwrap();
        for name in ["production.pem", dev::KEY_FILE] {
            let key = dir.path().join(name);
            std::fs::write(&key, &pem).unwrap();
            let fault = said(&["mint", "--key", key.to_str().unwrap(), "--user", "ada"]).unwrap_err();
            assert!(matches!(fault, TokenFault::Files(dev::DevFault::NotDevelopment(_))), "{name}: {fault}");
        }
        let beside = dir.path().join(dev::ISSUER_FILE);
        std::fs::write(beside, r#"{"development": false, "issuer": "https://idp.example", "audience": "a"}"#).unwrap();
        let key = dir.path().join(dev::KEY_FILE);
        let fault = said(&["mint", "--key", key.to_str().unwrap(), "--user", "ada"]).unwrap_err();
        assert!(matches!(fault, TokenFault::Files(dev::DevFault::NotDevelopment(_))), "{fault}");
    }

    #[test]
    fn a_token_that_would_be_refused_is_not_minted_unless_it_is_only_expired() {
        let dir = tempfile::tempdir().unwrap();
        said(&["init", "--dir", dir.path().to_str().unwrap()]).unwrap();
        let key = dir.path().join(dev::KEY_FILE);
        let mint = |rest: &[&str]| said(&[&["mint", "--key", key.to_str().unwrap()], rest].concat());
        assert!(matches!(mint(&["--user", "ada", "--tenant", "no spaces"]), Err(TokenFault::Refused(_))));
        assert!(matches!(mint(&["--user", ""]), Err(TokenFault::Refused(_))));
        assert!(mint(&["--user", "ada", "--ttl", "-1h"]).is_ok());
    }

    #[test]
    fn an_issuer_is_never_made_over_another_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        said(&["init", "--dir", dir.path().to_str().unwrap()]).unwrap();
        let key = dir.path().join(dev::KEY_FILE);
        let before = std::fs::read(&key).unwrap();
        let fault = said(&["init", "--dir", dir.path().to_str().unwrap()]).unwrap_err();
        assert!(matches!(fault, TokenFault::Files(dev::DevFault::Exists(_))), "{fault}");
        assert_eq!(std::fs::read(&key).unwrap(), before);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_team_without_roles_is_refused() {
        assert!(team("payments").is_err() && team("payments=").is_err() && team("=lead").is_err());
        assert_eq!(team("payments=lead,member").unwrap().1, ["lead", "member"]);
    }
}

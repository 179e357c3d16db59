//! `loopgate token approval`: an approval as LoopIQ would sign one, for trying things out.
//!
//! Promises: signs only with a development issuer's key, and only what a gateway that accepts that
//! issuer would take; what is approved is what the gateway will compare, control arguments left out.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use serde_json::Map;
use serde_json::Value;
use uuid::Uuid;

use super::TokenFault;
use super::as_configured;
use crate::adapters::keys::dev;
use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::identity::approval_token;
use crate::domain::identity::dev::DevApproval;
use crate::domain::mcp::Head;
use crate::domain::mcp::controls::controls;

#[derive(Debug, Args)]
#[command(override_usage = "loopgate token approval --key <FILE> --ledger <NAME> --tenant <TENANT>
         --user <USER> --tool <TOOL> --vote <USER=ROLE,ROLE> [OPTIONS]")]
pub(super) struct Approval {
    /// The key file that `token init` or `demo` made.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The ledger it may be used in; `/readyz` names it
    #[arg(long, value_name = "NAME")]
    ledger: String,
    /// The organisation.
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The user who may use it.
    #[arg(long, value_name = "USER")]
    user: String,
    /// The tool that may be called.
    #[arg(long, value_name = "TOOL")]
    tool: String,
    /// Its arguments, as JSON or in a file
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    arguments: String,
    /// Who agreed, with their roles; several may be given
    #[arg(long = "vote", value_name = "USER=ROLE,ROLE", value_parser = vote, required = true)]
    votes: Vec<(String, Vec<String>)>,
    /// Its id; made up when none is given
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How long it is good, at most 15 minutes; a negative time makes one that has expired
    #[arg(long, value_name = "TIME", default_value = "10m", allow_hyphen_values = true)]
    ttl: SignedDuration,
}

impl Approval {
    /// The signed approval.
    pub(super) fn signed(&self, now_s: i64) -> Result<String, TokenFault> {
        let issuer = dev::load(&self.key)?;
        let approval = DevApproval {
            ledger: self.ledger.clone(),
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            tool: self.tool.clone(),
            arguments: arguments(&self.arguments)?,
            id: self.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
            votes: self.votes.clone(),
        };
        let ttl_s = self.ttl.as_secs();
        // One that has expired was issued as it ended.
        let issued_s = if ttl_s < 0 { now_s.saturating_add(ttl_s) } else { now_s };
        let token = issuer
            .approve(&approval, issued_s, ttl_s.max(0))
            .map_err(|fault| TokenFault::Arguments(fault.to_string()))?;
        let issuers = [as_configured(&issuer, issuer.approval_settings("development"))];
        match approval_token::verify(&token, &issuers, &self.ledger, now_s) {
            // One that has expired is what somebody asks for who tries how one is refused.
            Ok(_) => Ok(token),
            Err(fault) => Err(TokenFault::Refused(fault)),
        }
    }
}

/// The arguments as the gateway will compare them.
fn arguments(text: &str) -> Result<Map<String, Value>, TokenFault> {
    let read = match text.strip_prefix('@') {
        None => text.as_bytes().to_vec(),
        Some(file) => {
            fs::read(file).map_err(|cause| TokenFault::Arguments(format!("cannot read `{file}`: {cause}")))?
        }
    };
    let value =
        canonical::parse(&read, &Limits::default()).map_err(|fault| TokenFault::Arguments(fault.to_string()))?;
    let Value::Object(mut arguments) = value else {
        return Err(TokenFault::Arguments("not a JSON object".to_owned()));
    };
    controls(&Map::new(), &Head::default(), &mut arguments)
        .map_err(|refusal| TokenFault::Arguments(refusal.words()))?;
    Ok(arguments)
}

fn vote(text: &str) -> Result<(String, Vec<String>), String> {
    let (user, roles) = text.split_once('=').unwrap_or((text, ""));
    let roles = roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect();
    if user.is_empty() { Err("write it as user=role,role".to_owned()) } else { Ok((user.to_owned(), roles)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::token::fresh_issuer;
    use crate::domain::identity::approval_token::SignedApproval;
    use crate::domain::identity::approval_token::action_digest;
    use crate::domain::identity::fault::AuthFault;

    const NOW: i64 = 1_800_000_000;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        approval: Approval,
    }

    /// An approval with these further arguments, and what a gateway makes of it at `NOW`.
    fn signed(more: &[&str]) -> Result<Result<SignedApproval, AuthFault>, TokenFault> {
        let dir = tempfile::tempdir().unwrap();
        let issuer = fresh_issuer("https://helix.invalid", "unused").unwrap();
        let key = dev::save(dir.path(), &issuer).unwrap().key;
        let fixed = [
            "approval",
            "--key",
            key.to_str().unwrap(),
            "--ledger",
            "ledger_1",
            "--tenant",
            "org_gcn",
            "--user",
            "ada",
        ];
        let line = Line::parse_from([&fixed, more].concat());
        let token = line.approval.signed(NOW)?;
        let issuers = [as_configured(&issuer, issuer.approval_settings("helix"))];
        Ok(approval_token::verify(&token, &issuers, "ledger_1", NOW))
    }

    const TOOL: [&str; 2] = ["--tool", "loopiq_x"];
    const OTTO: [&str; 2] = ["--vote", "otto=certification_approver,auditor"];

    #[test]
    fn it_approves_just_the_call_that_was_described() {
        let arguments = ["--arguments", r#"{"b": 1, "a": "x", "dryRun": true, "idempotencyKey": "k"}"#, "--id", "h-1"];
        let approval = signed(&[&TOOL[..], &OTTO, &arguments, &["--vote", "tess"]].concat()).unwrap().unwrap();
        let bare = json!({"a": "x", "b": 1}).as_object().cloned().unwrap();
        assert_eq!(approval.action_digest, action_digest("org_gcn", "ada", "loopiq_x", &bare).unwrap());
        assert_eq!((approval.id.as_str(), approval.expires_ms), ("ext_helix.h-1", (NOW + 600) * 1000));
        assert_eq!(approval.votes[0].roles, ["certification_approver", "auditor"]);
        assert!(approval.votes[1].user == "tess" && approval.votes[1].roles.is_empty());
    }

    #[test]
    fn arguments_may_stand_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"a": 1}"#).unwrap();
        let at = format!("@{}", file.path().display());
        assert!(signed(&[&TOOL[..], &OTTO, &["--arguments", &at]].concat()).unwrap().is_ok());
        for bad in ["[]", "{", "@/nowhere/at/all", r#"{"a":1,"a":2}"#, r#"{"n":9007199254740993}"#, r#"{"dryRun":1}"#] {
            let fault = signed(&[&TOOL[..], &OTTO, &["--arguments", bad]].concat()).unwrap_err();
            assert!(matches!(fault, TokenFault::Arguments(_)), "{bad}: {fault}");
        }
    }

    #[test]
    fn what_a_gateway_would_refuse_is_not_signed_unless_it_is_only_expired() {
        let with = |more: &[&str]| signed(&[&TOOL[..], more].concat());
        assert!(matches!(with(&["--vote", "ada"]), Err(TokenFault::Refused(_))), "nobody approves for themselves");
        assert!(matches!(with(&["--vote", "otto", "--ttl", "16m"]), Err(TokenFault::Refused(_))));
        assert!(matches!(with(&["--vote", "otto", "--id", "a b"]), Err(TokenFault::Refused(_))));
        let expired = with(&["--vote", "otto", "--ttl", "-5m"]).unwrap().unwrap();
        assert_eq!(expired.expires_ms, (NOW - 300) * 1000);
        assert!(vote("=role").is_err() && vote("").is_err());
    }
}

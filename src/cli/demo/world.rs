//! The demo's world: users, settings, and the policies and catalog that are built in.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use include_dir::Dir;
use include_dir::include_dir;
use serde::Serialize;

use crate::adapters::keys::dev;
use crate::domain::identity::dev::DevClaims;
use crate::domain::identity::dev::DevIssuer;
use crate::domain::identity::signing::SigningKey;
use crate::pep::ports::Clock;

static POLICIES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/policies");
const CATALOG: &str = include_str!("../../../config/catalog.yaml");
/// Arguments of a work package that fits the sandbox's records.
const PACKAGE: &str = include_str!("../../../config/examples/remediation.json");

/// Tokens of the demo are good this long: seconds.
const TOKEN_TTL_S: i64 = 12 * 3600;
const AUDIENCE: &str = "loopgate-demo";

/// A demo user with a token.
#[derive(Debug, Serialize)]
pub(super) struct User {
    pub(super) user: String,
    pub(super) tenants: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) token: String,
}

/// One row of the cast: user, tenants, roles, team and roles in it.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static [(&'static str, &'static str)]);

const PEOPLE: &[Row] = &[
    ("ada", &["org_gcn"], &["release_manager"], &[("payments", "lead")]),
    ("ben", &["org_gcn"], &["developer"], &[("payments", "member")]),
    ("vic", &["org_gcn"], &["viewer"], &[]),
    ("otto", &["org_gcn"], &["certification_approver"], &[]),
    ("tess", &["org_gcn"], &["tenant_admin"], &[]),
    ("cleo", &["org_gcn", "org_nordbank"], &["auditor"], &[]),
    ("nora", &["org_nordbank"], &["release_manager"], &[]),
];
const SERVICES: &[Row] = &[("svc-pipeline", &["org_gcn"], &[], &[])];

/// The development issuers whose tokens are minted here: one for people, one for services.
pub(super) struct Issuers {
    people: DevIssuer,
    services: DevIssuer,
}

impl Issuers {
    /// Opens both, and makes those that are missing, with keys of their own.
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let open = |name: &str| -> Result<DevIssuer, String> {
            let home = dir.join("issuers").join(name);
            let key = home.join(dev::KEY_FILE);
            if key.exists() {
                // A demo that was kept goes on with its keys, so that its tokens stay good.
                return dev::load(&key).map_err(|fault| fault.to_string());
            }
            let mut random = [0u8; 32];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| "the operating system gives no randomness".to_owned())?;
            let key = SigningKey::generate(&random).map_err(|fault| fault.to_string())?;
            let issuer =
                DevIssuer { key, issuer: format!("https://{name}.loopgate-demo.invalid"), audience: AUDIENCE.into() };
            dev::save(&home, &issuer).map_err(|fault| fault.to_string())?;
            Ok(issuer)
        };
        // The third signs approvals, as LoopIQ does; `loopgate token approval` asks it to.
        open("helix")?;
        Ok(Self { people: open("people")?, services: open("services")? })
    }

    /// Mints a token for everybody and leaves each in `tokens/USER`.
    pub(super) fn users(&self, dir: &Path, clock: &Arc<dyn Clock>) -> Result<Vec<User>, String> {
        let tokens = dir.join("tokens");
        std::fs::create_dir_all(&tokens).map_err(|cause| cause.to_string())?;
        let now = clock.now_ms() / 1000;
        let people = PEOPLE.iter().map(|row| (&self.people, row));
        let services = SERVICES.iter().map(|row| (&self.services, row));
        let mut users = Vec::new();
        for (issuer, (user, tenants, roles, teams)) in people.chain(services) {
            let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
            let mut of_teams: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (team, role) in *teams {
                of_teams.entry((*team).to_owned()).or_default().push((*role).to_owned());
            }
            let claims = DevClaims {
                user: (*user).to_owned(),
                tenants: strings(tenants),
                roles: strings(roles),
                teams: of_teams,
                client: Some("demo".into()),
                ..DevClaims::default()
            };
            let token = issuer.mint(&claims, now, TOKEN_TTL_S, user);
            private(&tokens.join(user), &token).map_err(|cause| cause.to_string())?;
            users.push(User { user: claims.user, tenants: claims.tenants, roles: claims.roles, token });
        }
        Ok(users)
    }
}

/// A file that only its owner may read.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Writes the built-in catalog and policies, unless the directory has its own already.
pub(super) fn unpack(dir: &Path) -> Result<(), String> {
    let text = |cause: std::io::Error| cause.to_string();
    if !dir.join("catalog.yaml").exists() {
        std::fs::write(dir.join("catalog.yaml"), CATALOG).map_err(text)?;
    }
    let policies = dir.join("policies");
    if !policies.exists() {
        std::fs::create_dir_all(&policies).map_err(text)?;
        POLICIES.extract(&policies).map_err(text)?;
    }
    let call = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":\n\
         {{\"name\":\"loopiq_create_remediation_work_package\",\"arguments\":\n{PACKAGE}}}}}\n"
    );
    std::fs::write(dir.join("work-package.json"), call).map_err(text)
}

/// The settings of the demo, short enough to read.
pub(super) fn settings(mcp: SocketAddr, admin: SocketAddr, backend: SocketAddr, gated: bool) -> String {
    // WHY so few: whoever tries the demo has made some calls and not some thousands.
    let gate = if gated { ", activation: gated, gate: {decisions: 100}, canary: {least: 20}" } else { "" };
    format!(
        "# Settings of the demo, written anew at each of its starts: copy the file to change it.
# config/gateway.yaml of the project explains every option.
listen: {{mcp: \"{mcp}\", admin: \"{admin}\"}}
issuers:
  - name: people
    issuer: https://people.loopgate-demo.invalid
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    keys: {{file: issuers/people/{jwks}}}
  - name: services
    kind: service_account
    issuer: https://services.loopgate-demo.invalid
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    tenants: [org_gcn]
    keys: {{file: issuers/services/{jwks}}}
catalog: catalog.yaml
policy: {{dir: policies, store: store{gate}}}
# tess may see, activate and roll back policy.
operators: {{policy: {{tenants: [org_gcn], roles: [tenant_admin]}}}}
backends:
  - name: loopiq
    url: http://{backend}
audit: {{dir: audit, writer: demo, deployment: loopgate-demo}}
ledger: {{path: ledger.db}}
approvals:
  issuers:
    - name: helix
      issuer: https://helix.loopgate-demo.invalid
      algorithms: [EdDSA]
      keys: {{file: issuers/helix/{jwks}}}
keys: {{dir: keys}}
log: {{filter: warn}}
",
        jwks = dev::JWKS_FILE,
    )
}

/// Three commands to try, ready to paste.
pub(super) fn try_these(mcp: &str, admin: SocketAddr, dir: &Path) -> String {
    let admin = format!("http://{admin}");
    let in_dir = |name: &str| quoted(&dir.join(name).display().to_string());
    let exe = std::env::current_exe().map_or_else(|_| "loopgate".into(), |exe| quoted(&exe.display().to_string()));
    let call = |user: &str, tool: &str, arguments: &str| {
        let token = in_dir(&format!("tokens/{user}"));
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":\n       \
             {{\"name\":\"{tool}\",\n        \"arguments\":{arguments}}}}}"
        );
        format!(
            "  curl -sS -w '\\n' {mcp} \\\n    -H \"Authorization: Bearer $(cat {token})\" \\\n    \
             -H 'Content-Type: application/json' \\\n    -d '{body}'"
        )
    };
    let read = call("ada", "loopiq_get_release_certification", "{\"release\":\"backend-v1.0-GCN\"}");
    let token = in_dir("tokens/ada");
    let ask = format!(
        "  curl -sS -w '\\n' {mcp} \\\n    -H \"Authorization: Bearer $(cat {token})\" \\\n    \
         -H 'Content-Type: application/json' \\\n    -d @{}",
        in_dir("work-package.json")
    );
    let approver = in_dir("tokens/otto");
    let (audit, key) = (in_dir("audit"), in_dir("keys/audit.pub"));
    format!(
        "
try, in another terminal:

1. ada reads a certification
{read}

2. ada wants a work package with a story and three tasks, which others must approve first
{ask}

3. otto sees what waits for him; and what was recorded, and that nobody changed it
  {exe} approvals list --url {admin} --token-file {approver} && \\
  {exe} audit query {audit} && \\
  {exe} audit verify {audit} --pub {key}

Ctrl-C stops it."
    )
}

/// A word as a shell takes it, whatever is in it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '+' | '=' | '@');
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

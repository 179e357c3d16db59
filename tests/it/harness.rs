//! A world to try promises in: people with tokens, a gateway, a LoopIQ, and eyes on both.
//!
//! Promises: every part is the real one and speaks over TCP on ports of its own; dropping a world
//! stops it and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use loopgate::adapters::keys::dev;
use loopgate::adapters::reload::Sources;
use loopgate::app;
use loopgate::config;
use loopgate::domain::identity::dev::DevClaims;
use loopgate::domain::identity::dev::DevIssuer;
use loopgate::domain::identity::signing::SigningKey;
use loopgate::sandbox;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::message::Message;

pub(crate) const AUDIENCE: &str = "loopgate-it";
pub(crate) const PEOPLE: &str = "https://people.it.invalid";
pub(crate) const RELEASE: &str = "backend-v1.0-GCN";
/// This program is not loopgate, so bundles are tried by the one that is.
pub(crate) const LOOPGATE: &str = env!("CARGO_BIN_EXE_loopgate");
/// How long something that must come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What is different from an ordinary world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// Lines added to the settings.
    pub(crate) settings: String,
    /// Text of the catalog that is replaced, and by what.
    pub(crate) catalog: Vec<(&'static str, &'static str)>,
    /// File of the policies, text in it that is replaced, and by what.
    pub(crate) policies: Vec<(&'static str, &'static str, &'static str)>,
    /// Members added to the settings' `policy`, each after a comma.
    pub(crate) policy: &'static str,
    /// Members added to the settings' `audit`, each after a comma.
    pub(crate) audit: &'static str,
    /// Where the backend is, if not where the sandbox is.
    pub(crate) backend: Option<String>,
    /// Further issuers, each an item of the settings' list.
    pub(crate) issuers: String,
    /// Further members of the backend, each on a line of its own.
    pub(crate) of_backend: String,
}

/// A gateway before a LoopIQ.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) people: DevIssuer,
    pub(crate) services: DevIssuer,
    /// Signs approvals, as LoopIQ does.
    pub(crate) helix: DevIssuer,
    pub(crate) http: reqwest::Client,
    pub(crate) mcp: String,
    pub(crate) admin: String,
    pub(crate) backend: String,
    gateway: Option<app::Running>,
    sandbox: Option<sandbox::Running>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let site = Site::make(&setup).await;
        let gateway = Box::pin(app::start_with(site.settings(), LOOPGATE.into())).await.unwrap();
        Self {
            mcp: gateway.mcp_url(),
            admin: format!("http://{}", gateway.admin),
            backend: format!("http://{}", site.sandbox.addr()),
            http: site.http,
            dir: site.dir,
            people: site.people,
            services: site.services,
            helix: site.helix,
            gateway: Some(gateway),
            sandbox: Some(site.sandbox),
        }
    }

    /// A token for one of the cast.
    pub(crate) fn token(&self, user: &str) -> String {
        let issuer = if user == "svc-pipeline" { &self.services } else { &self.people };
        issuer.mint(&claims(user), app::now_s(), 3600, user)
    }

    /// A message of one of the cast.
    pub(crate) fn message(&self, user: &str, method: &str) -> Message {
        Message::new(&self.http, &self.mcp, method).header("authorization", &format!("Bearer {}", self.token(user)))
    }

    /// A tool call of one of the cast.
    pub(crate) fn call(&self, user: &str, tool: &str, arguments: Value) -> Message {
        self.message(user, "tools/call").param("name", tool).param("arguments", arguments)
    }

    /// A release's certification, which everybody who has a role may read.
    pub(crate) fn read(&self, user: &str) -> Message {
        self.call(user, "loopiq_get_release_certification", json!({"release": RELEASE}))
    }

    /// A write of low impact.
    pub(crate) fn write(&self, user: &str, title: &str) -> Message {
        let item = json!({"title": title, "type": "task", "parent": "WI-1001", "owner": "ben"});
        self.call(user, "loopiq_create_work_item", item)
    }

    /// Names of the tools that somebody is shown, all pages.
    pub(crate) async fn tools(&self, user: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut cursor = None;
        loop {
            let mut ask = self.message(user, "tools/list");
            if let Some(cursor) = cursor {
                ask = ask.param("cursor", cursor);
            }
            let page = ask.send().await;
            let tools = page.body["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {}", page.text));
            names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            cursor = page.body["result"]["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return names;
            }
        }
    }

    /// The next request to LoopIQ that fits goes wrong in this way.
    pub(crate) async fn fault(&self, fault: Value) {
        let set = self.http.post(format!("{}/_sandbox/faults", self.backend)).json(&fault).send().await.unwrap();
        assert_eq!(set.status(), 201, "{}", set.text().await.unwrap());
    }

    /// Requests that LoopIQ has seen.
    pub(crate) async fn seen(&self) -> Vec<Value> {
        let seen = self.get(&format!("{}/_sandbox/requests", self.backend)).await;
        let seen: Value = serde_json::from_str(&seen).unwrap();
        seen["items"].as_array().unwrap().clone()
    }

    /// Forgets the requests that LoopIQ has seen.
    pub(crate) async fn forget(&self) {
        self.http.delete(format!("{}/_sandbox/requests", self.backend)).send().await.unwrap();
    }

    /// Work items in LoopIQ with this word, asked behind the gateway's back.
    pub(crate) async fn work_items(&self, word: &str) -> Vec<Value> {
        let key = SigningKey::from_pkcs8_pem(&fs::read_to_string(self.path("keys/assertion.pem")).unwrap()).unwrap();
        let now = app::now_s();
        let claims =
            json!({"iss": "it", "aud": "loopiq", "sub": "ada", "tenant": "org_gcn", "iat": now, "exp": now + 60});
        let found = self
            .http
            .get(format!("{}/api/v1/work-items?q={word}", self.backend))
            .bearer_auth(sign(&key, &json!({"alg": "EdDSA", "typ": "JWT"}), &claims))
            .header("X-LoopIQ-Tenant", "org_gcn")
            .header("X-LoopIQ-User", "ada")
            .send()
            .await
            .unwrap();
        let found: Value = found.json().await.unwrap();
        found["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn get(&self, url: &str) -> String {
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// A metric's value, by its name with labels; none when the series does not exist.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let all = self.get(&format!("{}/metrics", self.admin)).await;
        all.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    pub(crate) async fn readiness(&self) -> Value {
        serde_json::from_str(&self.get(&format!("{}/readyz", self.admin)).await).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces text in a file below the world's directory, in one step, as careful editors do.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        edit(&self.path(file), from, to);
    }

    /// Every line of the journal, oldest first.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(self.path("audit/it")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let segments = files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
        let text: String = segments.map(|path| fs::read_to_string(path).unwrap()).collect();
        // WHY: the last line may be half written while the gateway runs.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The record that an answer refers to.
    #[track_caller]
    pub(crate) fn record(&self, audit: &Value) -> Value {
        let reference = audit["auditRef"].as_str().unwrap_or_else(|| panic!("no auditRef: {audit}"));
        let found = self.journal().into_iter().find(|record| record["metadata"]["uid"] == reference);
        found.unwrap_or_else(|| panic!("no record {reference}"))
    }

    /// Every record of one request, by its stage.
    pub(crate) fn stages(&self, request_id: &str) -> Vec<String> {
        let of_request = self.journal().into_iter().filter(|one| one["metadata"]["correlation_uid"] == request_id);
        of_request.map(|one| one["unmapped"]["loopgate"]["stage"].as_str().unwrap().to_owned()).collect()
    }

    /// Starts the gateway again, on the files that it left; on other ports.
    pub(crate) async fn start_again(&mut self) {
        self.stop_gateway().await;
        let gateway = Box::pin(app::start_with(load(self.dir.path()), LOOPGATE.into())).await.unwrap();
        self.mcp = gateway.mcp_url();
        self.admin = format!("http://{}", gateway.admin);
        self.gateway = Some(gateway);
    }

    /// Stops the gateway as SIGTERM does and leaves the rest.
    pub(crate) async fn stop_gateway(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (gateway, sandbox) = (self.gateway.take(), self.sandbox.take());
        if std::thread::panicking() {
            return;
        }
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                if let Some(gateway) = gateway {
                    gateway.stop().await;
                }
                drop(sandbox);
            });
        });
    }
}

/// Everything that a gateway needs before it starts.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) people: DevIssuer,
    pub(crate) services: DevIssuer,
    pub(crate) helix: DevIssuer,
    pub(crate) sandbox: sandbox::Running,
    pub(crate) http: reqwest::Client,
}

impl Site {
    pub(crate) async fn make(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        copy(&project.join("policies"), &dir.path().join("policies"));
        fs::copy(project.join("config/catalog.yaml"), dir.path().join("catalog.yaml")).unwrap();
        for (from, to) in &setup.catalog {
            edit(&dir.path().join("catalog.yaml"), from, to);
        }
        for (file, from, to) in &setup.policies {
            edit(&dir.path().join("policies").join(file), from, to);
        }
        let people = issuer(dir.path(), "people");
        let services = issuer(dir.path(), "services");
        let helix = issuer(dir.path(), "helix");
        let own = app::keys::OwnKeys::open(&dir.path().join("keys")).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let trust = Some(own.ring.jwks(app::now_s()));
        let sandbox = sandbox::start(sandbox::Settings { listen, store: sandbox::Store::Memory, trust }).await.unwrap();
        let backend = setup.backend.clone().unwrap_or_else(|| format!("http://{}", sandbox.addr()));
        fs::write(dir.path().join("gateway.yaml"), settings(&backend, setup)).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { dir, people, services, helix, sandbox, http }
    }

    /// The settings, read from the file as `serve` reads them.
    pub(crate) fn settings(&self) -> config::Settings {
        load(self.dir.path())
    }

    /// Where the rules of these settings come from.
    pub(crate) fn sources(&self) -> Sources {
        Sources { checker: LOOPGATE.into(), ..app::sources(&self.settings()) }
    }
}

fn load(dir: &Path) -> config::Settings {
    config::load(&dir.join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn settings(backend: &str, setup: &Setup) -> String {
    let jwks = dev::JWKS_FILE;
    format!(
        "listen: {{mcp: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}}
issuers:
  - name: people
    issuer: {PEOPLE}
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    keys: {{file: issuers/people/{jwks}}}
  - name: services
    kind: service_account
    issuer: https://services.it.invalid
    audiences: [{AUDIENCE}]
    algorithms: [EdDSA]
    tenants: [org_gcn]
    keys: {{file: issuers/services/{jwks}}}
{}
catalog: catalog.yaml
policy: {{dir: policies, store: store, reload_every: 50ms{}}}
backends:
  - name: loopiq
    url: {backend}
{}
audit: {{dir: audit, writer: it, deployment: loopgate-it{}}}
ledger: {{path: ledger.db}}
approvals:
  issuers:
    - {{name: helix, issuer: https://helix.it.invalid, algorithms: [EdDSA], keys: {{file: issuers/helix/{jwks}}}}}
keys: {{dir: keys}}
log: {{filter: warn}}
{}",
        setup.issuers, setup.policy, setup.of_backend, setup.audit, setup.settings
    )
}

fn issuer(dir: &Path, name: &str) -> DevIssuer {
    let mut random = [0u8; 32];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let key = SigningKey::generate(&random).unwrap();
    let issuer = DevIssuer { key, issuer: format!("https://{name}.it.invalid"), audience: AUDIENCE.to_owned() };
    dev::save(&dir.join("issuers").join(name), &issuer).unwrap();
    issuer
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[track_caller]
fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "`{from}` is not in {}", file.display());
    let beside = file.with_extension("new");
    fs::write(&beside, text.replacen(from, to, 1)).unwrap();
    fs::rename(beside, file).unwrap();
}

/// The cast: who may what.
pub(crate) fn claims(user: &str) -> DevClaims {
    let (tenants, roles): (&[&str], &[&str]) = match user {
        "ada" => (&["org_gcn"], &["release_manager"]),
        "ben" => (&["org_gcn"], &["developer"]),
        "vic" => (&["org_gcn"], &["viewer"]),
        "otto" => (&["org_gcn"], &["certification_approver"]),
        "tess" => (&["org_gcn"], &["tenant_admin"]),
        "cleo" => (&["org_gcn", "org_nordbank"], &["auditor"]),
        "nora" => (&["org_nordbank"], &["release_manager"]),
        "nobody" | "svc-pipeline" => (&["org_gcn"], &[]),
        _ => panic!("`{user}` is not of the cast"),
    };
    let teams: BTreeMap<_, _> = match user {
        "ada" => [("payments".to_owned(), vec!["lead".to_owned()])].into(),
        "ben" => [("payments".to_owned(), vec!["member".to_owned()])].into(),
        _ => BTreeMap::new(),
    };
    let owned = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
    DevClaims {
        user: user.to_owned(),
        tenants: owned(tenants),
        roles: owned(roles),
        teams,
        client: Some("it".to_owned()),
        ..DevClaims::default()
    }
}

/// A signed token with this header and these claims, whatever they say.
pub(crate) fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = base64url(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Asks until the answer is there; fails when it does not come.
#[track_caller]
pub(crate) fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{at}: {what} did not come about within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

//! Processes that end with their test, and a gateway of a test's own.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

/// Long enough for a debug build on a busy machine; reached only by what is broken.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// Well below the 20 s that a drain may take, which nobody shall wait for without a reason.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);

pub(crate) const FREE: &str = "127.0.0.1:0";
pub(crate) const RELEASE: &str = "backend-v1.0-GCN";

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
static CLIENT: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap());

/// A file of this repository.
pub(crate) fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The program, without a terminal and without what the tester's own environment says about colours.
pub(crate) fn loopgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loopgate"));
    command.args(arguments).env_remove("CLICOLOR_FORCE").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// Asks again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }

    /// This very exit code, with everything that was said when it is another.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Said {
    run_this(loopgate(arguments))
}

/// Runs a command to its end.
pub(crate) fn run_this(command: Command) -> Said {
    let mut process = Process::start(command);
    let code = process.ended(DEADLINE);
    Said { code, out: process.said(Stream::Out), err: process.said(Stream::Err) }
}

/// What a process writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// A process; killed at the latest when the test is over.
pub(crate) struct Process {
    child: Child,
    heard: [Arc<Mutex<Vec<u8>>>; 2],
    pumps: Vec<thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let heard = [Arc::default(), Arc::default()];
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let pumps = streams.into_iter().zip(&heard).map(|(stream, into)| pump(stream, Arc::clone(into))).collect();
        Self { child, heard, pumps }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything so far.
    pub(crate) fn said(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&self.heard[stream as usize].lock().unwrap()).into_owned()
    }

    /// The first whole line with these words, when it comes.
    pub(crate) fn line(&mut self, stream: Stream, words: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let over = self.child.try_wait().unwrap();
            if over.is_some() {
                self.pumps.drain(..).for_each(|pump| pump.join().unwrap());
            }
            let said = self.said(stream);
            let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = whole.into_iter().find(|line| line.contains(words)) {
                return line.trim_end().to_owned();
            }
            let said = || format!("out: {}\nerr: {}", self.said(Stream::Out), self.said(Stream::Err));
            assert!(over.is_none(), "ended ({over:?}) without `{words}`\n{}", said());
            assert!(Instant::now() < end, "waited {DEADLINE:?} for `{words}`\n{}", said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// The exit code; minus the number of the signal that killed it.
    pub(crate) fn ended(&mut self, within: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < end,
                "still runs after {within:?}\nout: {}\nerr: {}",
                self.said(Stream::Out),
                self.said(Stream::Err)
            );
            thread::sleep(Duration::from_millis(10));
        };
        self.pumps.drain(..).for_each(|pump| pump.join().unwrap());
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    /// Asks it to stop, as a supervisor does; it must be well and quick.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended(AT_ONCE), 0, "{}", self.said(Stream::Err));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pump(mut from: Box<dyn Read + Send>, into: Arc<Mutex<Vec<u8>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut part = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut part) {
            into.lock().unwrap().extend_from_slice(&part[..length]);
        }
    })
}

/// A GET: status and body, or why there is neither.
pub(crate) fn get(url: &str) -> Result<(u16, String), String> {
    RUNTIME.block_on(async {
        let answer = CLIENT.get(url).send().await.map_err(|cause| format!("{cause:?}"))?;
        Ok((answer.status().as_u16(), answer.text().await.map_err(|cause| format!("{cause:?}"))?))
    })
}

/// A GET with a bearer token.
pub(crate) fn get_as(url: &str, token: &str) -> Result<(u16, String), String> {
    RUNTIME.block_on(async {
        let answer = CLIENT.get(url).bearer_auth(token).send().await.map_err(|cause| format!("{cause:?}"))?;
        Ok((answer.status().as_u16(), answer.text().await.map_err(|cause| format!("{cause:?}"))?))
    })
}

/// A POST with a bearer token: status and body, or why there is neither.
pub(crate) fn post(url: &str, token: &str, body: &Value) -> Result<(u16, String), String> {
    RUNTIME.block_on(async {
        let asked = CLIENT.post(url).bearer_auth(token).json(body);
        let answer = asked.send().await.map_err(|cause| format!("{cause:?}"))?;
        Ok((answer.status().as_u16(), answer.text().await.map_err(|cause| format!("{cause:?}"))?))
    })
}

/// An MCP request: its result, or why there is none.
pub(crate) fn ask(mcp: &str, token: &str, method: &str, params: &Value) -> Result<Value, String> {
    let (status, body) = post(mcp, token, &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))?;
    let answer: Value = serde_json::from_str(&body).map_err(|cause| format!("{status}: {cause}: {body}"))?;
    answer.get("result").cloned().ok_or(format!("{status}: {body}"))
}

/// A tool call: its result, or why there is none.
pub(crate) fn call(mcp: &str, token: &str, tool: &str, arguments: &Value) -> Result<Value, String> {
    ask(mcp, token, "tools/call", &json!({"name": tool, "arguments": arguments}))
}

/// The call that most tests make.
pub(crate) fn read_certification(mcp: &str, token: &str) -> Result<Value, String> {
    call(mcp, token, "loopiq_get_release_certification", &json!({"release": RELEASE}))
}

/// Where a result was recorded.
pub(crate) fn audit_ref(result: &Value) -> String {
    let reference = result.pointer("/_meta/com.loopiq~1audit/auditRef").and_then(Value::as_str);
    reference.unwrap_or_else(|| panic!("no audit reference: {result:#}")).to_owned()
}

/// A stand-in backend.
pub(crate) struct Sandbox {
    pub(crate) url: String,
    _process: Process,
}

impl Sandbox {
    pub(crate) fn start() -> Self {
        let mut process = Process::start(loopgate(&["sandbox", "--listen", FREE]));
        let line = process.line(Stream::Out, "listens on");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { url, _process: process }
    }

    /// Something to go wrong.
    pub(crate) fn fault(&self, fault: &Value) {
        let (status, body) = post(&format!("{}/_sandbox/faults", self.url), "", fault).unwrap();
        assert_eq!(status, 201, "{body}");
    }

    /// What happened in it: `executions` in all, and under each key of each organisation.
    pub(crate) fn effects(&self) -> Value {
        serde_json::from_str(&get(&format!("{}/_sandbox/effects", self.url)).unwrap().1).unwrap()
    }

    /// How many requests for this very path, dry runs left out, have arrived.
    pub(crate) fn arrived(&self, path: &str) -> usize {
        let seen: Value = serde_json::from_str(&get(&format!("{}/_sandbox/requests", self.url)).unwrap().1).unwrap();
        let of_path = |one: &&Value| one["method"] == "POST" && one["path"] == path && one["query"].is_null();
        seen["items"].as_array().unwrap().iter().filter(of_path).count()
    }

    /// Waits until a request for this path has arrived.
    pub(crate) fn sees(&self, path: &str) {
        let url = format!("{}/_sandbox/requests", self.url);
        until(path, || get(&url).unwrap().1.contains(path).then_some(()));
    }
}

/// A directory with everything that a gateway needs, at the settings' defaults wherever possible.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new(backend: &str) -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        run(&["token", "init", "--dir", &home.path("issuer")]).exits(0);
        home.write("gateway.yaml", &settings(backend));
        home
    }

    /// One with policies of its own, to be spoilt.
    pub(crate) fn with_own_policies(backend: &str) -> Self {
        let home = Self::new(backend);
        copy(&of_repository("policies"), &home.dir.path().join("policies"));
        home.settings(|text| text.replace(&shown(&of_repository("policies")), "policies"));
        home
    }

    /// Another gateway's, with the same callers and settings, and with keys and a journal of its own.
    pub(crate) fn replica(&self) -> Self {
        let replica = Self { dir: tempfile::tempdir().unwrap() };
        copy(self.dir.path(), replica.dir.path());
        replica
    }

    /// Every file in it, to be laid down again by [`Home::of`].
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let root = self.dir.path();
        let name = |path: &Path| path.strip_prefix(root).unwrap().to_owned();
        files(root).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
    }

    /// A home with these files: what one gateway has done, for several tests.
    pub(crate) fn of(files: &[(PathBuf, Vec<u8>)]) -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        for (name, bytes) in files {
            let path = home.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        home
    }

    pub(crate) fn path(&self, name: &str) -> String {
        shown(&self.dir.path().join(name))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn config(&self) -> String {
        self.path("gateway.yaml")
    }

    pub(crate) fn settings(&self, change: impl FnOnce(String) -> String) {
        let before = self.read("gateway.yaml");
        let after = change(before.clone());
        assert_ne!(before, after, "the change changes nothing");
        self.write("gateway.yaml", &after);
    }

    /// A release manager's token.
    pub(crate) fn token(&self) -> String {
        self.token_of("ada", "release_manager")
    }

    /// A token for somebody with a role.
    pub(crate) fn token_of(&self, user: &str, role: &str) -> String {
        let key = self.path("issuer/dev-issuer.pem");
        let minted = run(&["token", "mint", "--key", &key, "--user", user, "--tenant", "org_gcn", "--role", role]);
        minted.exits(0).out.trim_end().to_owned()
    }

    /// Verifies the journal.
    pub(crate) fn verify(&self) -> Said {
        run(&["audit", "verify", "--config", &self.config()])
    }

    /// Every record.
    pub(crate) fn records(&self) -> Vec<Value> {
        let said = run(&["audit", "query", "--config", &self.config(), "--json", "--limit", "0"]).exits(0);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn settings(backend: &str) -> String {
    format!(
        "listen: {{mcp: \"{FREE}\", admin: \"{FREE}\"}}
issuers:
  - name: main
    issuer: http://localhost/loopgate-dev
    audiences: [http://127.0.0.1:8080/mcp]
    algorithms: [EdDSA]
    keys: {{file: issuer/dev-issuer.jwks.json}}
catalog: {catalog}
policy: {{dir: {policies}, store: store, reload_every: 100ms}}
backends:
  - url: {backend}
audit: {{dir: audit}}
ledger: {{path: ledger.db}}
keys: {{dir: keys}}
log: {{format: json}}
",
        catalog = shown(&of_repository("config/catalog.yaml")),
        policies = shown(&of_repository("policies")),
    )
}

pub(crate) fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Every file in a directory and below it.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) mcp: String,
    pub(crate) admin: String,
}

impl Gateway {
    pub(crate) fn serve(home: &Home) -> Self {
        Self::started(loopgate(&["serve", "--config", &home.config()]))
    }

    /// One that this command starts.
    pub(crate) fn started(command: Command) -> Self {
        let mut process = Process::start(command);
        let line = process.line(Stream::Err, "serving MCP on ");
        let said: Value = serde_json::from_str(&line).unwrap();
        let words = said["fields"]["message"].as_str().unwrap();
        let (mcp, admin) =
            words.strip_prefix("serving MCP on ").and_then(|rest| rest.split_once(", operators on ")).unwrap();
        Self { mcp: format!("http://{mcp}/mcp"), admin: format!("http://{admin}"), process }
    }

    /// Where MCP clients connect, as `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.mcp.trim_start_matches("http://").trim_end_matches("/mcp")
    }

    /// The status of `/readyz` and what it says.
    pub(crate) fn ready(&self) -> (u16, Value) {
        let (status, body) = get(&format!("{}/readyz", self.admin)).unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }
}

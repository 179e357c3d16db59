//! `loopgate approvals` and `loopgate writes` before a running demo: what they say and how they end.

use serde_json::Value;
use serde_json::json;

use crate::harness::FREE;
use crate::harness::Process;
use crate::harness::RELEASE;
use crate::harness::Said;
use crate::harness::Stream;
use crate::harness::ask;
use crate::harness::loopgate;
use crate::harness::of_repository;
use crate::harness::run;
use crate::harness::run_this;

const PACKAGE: &str = "loopiq_create_remediation_work_package";

/// A demo that keeps its files as long as the test runs.
struct Demo {
    process: Process,
    said: Value,
    dir: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("demo");
        let words =
            ["demo", "--mcp", FREE, "--admin", FREE, "--backend", FREE, "--json", "--keep", keep.to_str().unwrap()];
        let mut process = Process::start(loopgate(&words));
        let said = serde_json::from_str(&process.line(Stream::Out, "{")).unwrap();
        Self { process, said, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join("demo").join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command as one of the cast, with the token in a file.
    fn as_user(&self, user: &str, words: &[&str]) -> Said {
        let token = self.path(&format!("tokens/{user}"));
        run(&[words, &["--url", self.said["admin"].as_str().unwrap(), "--token-file", &token]].concat())
    }

    /// A call of ada's in her workflow.
    fn ada(&self, tool: &str, arguments: &Value) -> Value {
        let users = self.said["users"].as_array().unwrap();
        let token = users.iter().find(|row| row["user"] == "ada").unwrap()["token"].as_str().unwrap();
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"com.loopiq/workflow": "w"}});
        ask(self.said["mcp"].as_str().unwrap(), token, "tools/call", &params).unwrap()
    }

    /// Asks for a work package, and gives the approval's id.
    fn package(&self) -> String {
        self.ada("loopiq_get_release_certification_evidence_graph", &json!({"release": RELEASE}));
        let arguments = std::fs::read_to_string(of_repository("config/examples/remediation.json")).unwrap();
        let asked = self.ada(PACKAGE, &serde_json::from_str(&arguments).unwrap());
        let id = asked.pointer("/_meta/com.loopiq~1error/approvalId").and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no approval: {asked:#}")).to_owned()
    }
}

#[test]
fn an_approver_decides_about_exactly_what_was_shown_and_the_journal_tells_it_whole() {
    let demo = Demo::start();
    let id = demo.package();
    let list = demo.as_user("otto", &["approvals", "list", "--state", "pending"]).exits(0);
    assert!(list.out.contains(&id), "{list:?}");
    let card = demo.as_user("otto", &["approvals", "show", &id]).exits(0).out;
    for part in ["pending: 0 of 1 agree", "asked by   ada in org_gcn", "  + work_package", "the arguments, exactly"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let wide: Vec<&str> = card.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let shown = demo.as_user("otto", &["approvals", "show", &id, "--json"]).exits(0).json();
    let digest = shown["digest"].as_str().unwrap();
    assert!(card.contains(digest.get(..16).unwrap()), "{card}");

    // Nobody who may not, nothing that was not seen, nothing in a pipe without a word.
    let stranger = demo.as_user("vic", &["approvals", "show", &id]).exits(1);
    let nothing = demo.as_user("vic", &["approvals", "show", "apr_none"]).exits(1);
    assert_eq!(stranger.err, nothing.err);
    let own = demo.as_user("ada", &["approvals", "approve", &id, "--yes"]).exits(1);
    assert!(own.err.contains("self_approval"), "{own:?}");
    let silent = demo.as_user("otto", &["approvals", "approve", &id]).exits(2);
    assert!(silent.err.contains("--digest"), "{silent:?}");
    let other = demo.as_user("otto", &["approvals", "approve", &id, "--digest", &"0".repeat(16)]).exits(1);
    assert!(other.err.contains("nothing was changed"), "{other:?}");
    assert_eq!(demo.as_user("otto", &["approvals", "show", &id, "--json"]).exits(0).json()["state"], "pending");

    let said = demo.as_user("otto", &["approvals", "approve", &id, "--digest", digest, "--reason", "as planned"]);
    assert!(said.exits(0).out.contains("approved: 1 of 1 agree"));
    let done = demo.ada("loopiq_execute_approved_action", &json!({"approvalId": id}));
    let made = done.pointer("/_meta/com.loopiq~1audit/recordIds/0").and_then(Value::as_str).unwrap().to_owned();
    let used = demo.as_user("otto", &["approvals", "revoke", &id]).exits(1);
    assert!(used.err.contains("approval_spent"), "{used:?}");

    let told = run(&["audit", "show", &demo.path("audit"), &made]).exits(0).out;
    let mut from = 0;
    for step in ["approval.requested", "otto from", "approval.vote", "approval.approved", "outcome  executed 201"] {
        let at = told.get(from..).and_then(|rest| rest.find(step)).unwrap_or_else(|| panic!("{step}: {told}"));
        from += at;
    }
    assert_eq!(run(&["audit", "show", &demo.path("audit"), &id]).exits(0).out, told);
    run(&["audit", "verify", &demo.path("audit"), "--pub", &demo.path("keys/audit.pub")]).exits(0);

    let writes = demo.as_user("tess", &["writes", "list", "--json"]).exits(0).json();
    assert_eq!(writes["items"][0]["approvalId"], id.as_str());
    let write = demo.as_user("ada", &["writes", "show", &id]).exits(0).out;
    assert!(write.contains("executed, known by answer") && write.contains(&made), "{write}");
    let settled = ["writes", "resolve", &id, "--outcome", "failed", "--evidence", "looked"];
    assert!(demo.as_user("tess", &settled).exits(1).err.contains("write_settled"));
    demo.process.stop();
}

#[test]
fn a_gateway_that_is_not_there_is_exit_3_and_a_token_that_is_not_there_is_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a.b.c").unwrap();
    let token = token.to_str().unwrap();
    // Port 9 is that of RFC 863, where nobody listens.
    let nowhere = ["approvals", "list", "--url", "http://127.0.0.1:9"];
    let said = run(&[&nowhere[..], &["--token-file", token]].concat()).exits(3);
    assert!(said.err.contains("http://127.0.0.1:9 does not answer"), "{said:?}");
    let mut bare = loopgate(&nowhere);
    bare.env_remove("LOOPGATE_TOKEN");
    assert!(run_this(bare).exits(2).err.contains("LOOPGATE_TOKEN"));
    let mut from_environment = loopgate(&["writes", "list", "--json"]);
    from_environment.env("LOOPGATE_TOKEN", "a.b.c").env("LOOPGATE_URL", "http://127.0.0.1:9");
    run_this(from_environment).exits(3);
    run(&["writes", "list", "--url", "127.0.0.1", "--token-file", token]).exits(2);
}

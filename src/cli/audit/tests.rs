//! The commands against a journal that the real writer wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value;

use super::*;
use crate::adapters::journal::{Journal, Settings, SigningKey, generate_signing_key};
use crate::domain::audit::record::{Answered, Execution, Opened, Record, Stage};
use crate::domain::identity::forge::{principal, tenant};
use crate::domain::mcp::Era;
use crate::domain::refusal::{Code, Refusal};

struct Scene {
    dir: tempfile::TempDir,
    key: String,
    public: PathBuf,
}

fn request(n: i64, tool: &str) -> Record {
    let mut record = Record::open(Opened {
        request_id: format!("req-{n}"),
        received_ms: n * 1000,
        method: "tools/call".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        span_id: "00f067aa0ba902b7".to_owned(),
        ..Opened::default()
    });
    record.called_unknown(tool);
    record.keyed(&format!("key-{n}"), None);
    record
}

impl Scene {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, public_key) = generate_signing_key().unwrap();
        let public = dir.path().join("audit.pub");
        std::fs::write(&public, public_key.pem()).unwrap();
        Self { dir, key, public }
    }

    /// A journal of one boot: request 1 executed, request 2 refused.
    fn new() -> Self {
        let scene = Self::empty();
        let mut executed = request(1, "loopiq_get_release");
        executed.keyed("key-1", Some("x1"));
        let intent = executed.stage(Stage::Intent, 1_010);
        let record_ids = vec!["rel-1".to_owned()];
        executed.answered(Answered {
            execution: Execution::Executed,
            backend_status: Some(200),
            bytes: 9,
            record_ids,
            replayed: false,
        });
        let mut refused = request(2, "loopiq_\u{1b}[31mred");
        refused.refused(&Refusal::because(Code::PolicyDenied, "not for `viewer`").into());
        scene.boot(vec![intent, executed.stage(Stage::Outcome, 1_080), refused.stage(Stage::Denied, 2_001)]);
        scene
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn place(&self) -> Place {
        Place { dir: Some(self.journal()), config: None }
    }

    fn boot(&self, records: Vec<Record>) {
        let key = SigningKey::Pem(self.key.clone());
        let mut settings = Settings::new(self.journal(), "gateway-1".to_owned(), "demo".to_owned(), key);
        settings.low_water_bytes = 0;
        settings.deadline = std::time::Duration::from_mins(5);
        let time = AtomicI64::new(500);
        let journal = Journal::open(settings, Arc::new(move || time.fetch_add(1, Ordering::Relaxed))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for record in records {
            runtime.block_on(journal.append(record)).unwrap();
        }
        journal.close().unwrap();
    }

    fn verify(&self, checkpoints: &[&Path]) -> (u8, Value) {
        let args = Verify {
            place: self.place(),
            keys: vec![self.public.clone()],
            checkpoints: checkpoints.iter().map(|path| (*path).to_owned()).collect(),
            unsigned_seconds: 10,
            json: true,
        };
        let (code, out, err) = run_it(&Command::Verify(args));
        (code, serde_json::from_str(&out).unwrap_or(Value::String(err)))
    }

    fn query(&self, change: impl FnOnce(&mut Query)) -> (u8, String, String) {
        let mut args = Query { place: self.place(), limit: 50, ..Query::default() };
        change(&mut args);
        run_it(&Command::Query(args))
    }

    fn show(&self, id: &str) -> (u8, String) {
        let args = Show { place: self.place(), id: id.to_owned(), json: false };
        let (code, out, _) = run_it(&Command::Show(args));
        (code, out)
    }

    fn segment(&self) -> PathBuf {
        self.journal().join("gateway-1/1-0.jsonl")
    }
}

fn run_it(command: &Command) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_to(command, &mut out, &mut err);
    (code, bare(out), bare(err))
}

/// What was written but for our own colours; anything else that a terminal would obey stays visible.
fn bare(text: Vec<u8>) -> String {
    let text = String::from_utf8(text).unwrap();
    [print::GOOD, print::BAD, print::STRONG, print::PLAIN].iter().fold(text, |text, code| text.replace(code, ""))
}

#[test]
fn a_journal_as_it_was_written_is_fine_over_two_boots() {
    let scene = Scene::new();
    scene.boot(vec![request(3, "x")]);
    let (code, report) = scene.verify(&[]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report.pointer("/writers/0/summary/records"), Some(&Value::from(6)));
    assert_eq!(report.pointer("/writers/0/summary/unsigned"), Some(&Value::from(0)));
}

#[test]
fn one_changed_byte_is_exit_1_and_names_segment_line_record_and_request() {
    let scene = Scene::new();
    let text = std::fs::read_to_string(scene.segment()).unwrap();
    std::fs::write(scene.segment(), text.replace("\"backend_status\":200", "\"backend_status\":201")).unwrap();
    let (code, report) = scene.verify(&[]);
    assert_eq!(code, 1, "{report}");
    let finding = report.pointer("/writers/0/findings/0").unwrap();
    for (name, expected) in
        [("segment", Value::from("1-0.jsonl")), ("line", 3.into()), ("seq", 2.into()), ("request_id", "req-1".into())]
    {
        assert_eq!(finding.get(name), Some(&expected), "{finding}");
    }
    let args = Verify {
        place: scene.place(),
        keys: vec![scene.public.clone()],
        checkpoints: vec![],
        unsigned_seconds: 10,
        json: false,
    };
    let (_, out, _) = run_it(&Command::Verify(args));
    assert_eq!(
        out,
        "gateway-1: ALTERED: segment 1-0.jsonl, line 3, record gateway-1/1/2, request req-1: it does not match its own fingerprint\n"
    );
}

#[test]
fn records_cut_off_the_end_are_exit_2_and_with_their_checkpoints_only_a_kept_one_shows_it() {
    let scene = Scene::new();
    let notes = scene.journal().join("gateway-1/checkpoints");
    let kept = scene.dir.path().join("kept");
    std::fs::copy(&notes, &kept).unwrap();
    let text = std::fs::read_to_string(scene.segment()).unwrap();
    let cut: String = text.split_inclusive('\n').take(1).collect();
    std::fs::write(scene.segment(), cut).unwrap();
    assert_eq!(scene.verify(&[]).0, 2);
    let first = std::fs::read_to_string(&notes).unwrap();
    let first: String = first.split_inclusive('\n').take(5).collect();
    std::fs::write(&notes, first).unwrap();
    assert_eq!(scene.verify(&[]).0, 0, "nothing left in the directory can show it");
    assert_eq!(scene.verify(&[&kept]).0, 2);
    std::fs::remove_dir_all(scene.journal().join("gateway-1")).unwrap();
    assert_eq!(scene.verify(&[]).0, 2, "no journal is not a fine journal");
    assert_eq!(scene.verify(&[&kept]).0, 2);
}

/// The forger runs a gateway of their own on the same calls and one more, and brings its file.
#[test]
fn a_record_added_while_the_gateway_was_stopped_is_exit_1_even_after_it_started_again() {
    let records = |more: Option<Record>| vec![request(3, "x")].into_iter().chain(more).collect::<Vec<_>>();
    let (stopped, forger) = (Scene::empty(), Scene::empty());
    stopped.boot(records(None));
    forger.boot(records(Some(request(4, "loopiq_decide_release_certification"))));
    std::fs::copy(forger.segment(), stopped.segment()).unwrap();
    stopped.boot(vec![request(5, "x")]);
    let (code, report) = stopped.verify(&[]);
    assert_eq!(code, 1, "{report}");
    let finding = report.pointer("/writers/0/findings/0").unwrap();
    assert_eq!((&finding["request_id"], &finding["seq"]), (&"req-4".into(), &2.into()), "{finding}");
    assert!(finding["what"].as_str().unwrap().contains("behind the end of epoch 1"), "{finding}");
}

#[test]
fn a_checkpoint_by_another_key_is_exit_3() {
    let scene = Scene::new();
    let (_, other) = generate_signing_key().unwrap();
    std::fs::write(&scene.public, other.pem()).unwrap();
    let (code, report) = scene.verify(&[]);
    assert_eq!((code, report.pointer("/writers/0/findings").unwrap().as_array().unwrap().len()), (3, 1), "{report}");
}

#[test]
fn no_checkpoint_is_exit_4_and_no_readable_file_is_exit_64() {
    let scene = Scene::new();
    std::fs::remove_file(scene.journal().join("gateway-1/checkpoints")).unwrap();
    assert_eq!(scene.verify(&[]).0, 4);
    std::fs::write(&scene.public, "no key").unwrap();
    assert_eq!(scene.verify(&[]).0, 64);
    std::fs::remove_file(&scene.public).unwrap();
    assert_eq!(scene.verify(&[]).0, 64);
    assert_eq!(scene.verify(&[Path::new("/nowhere/at/all")]).0, 64);
}

#[test]
fn the_command_line_takes_a_directory_or_settings_and_an_id() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let parse = |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' ')).map(|line| line.command);
    let Ok(Command::Show(show)) = parse("audit show journal req-1") else { panic!("DIR and ID") };
    assert_eq!((show.place.dir, show.id.as_str()), (Some(PathBuf::from("journal")), "req-1"));
    let Ok(Command::Show(show)) = parse("audit show --config gateway.yaml req-1") else { panic!("settings and ID") };
    assert_eq!((show.place.dir, show.id.as_str()), (None, "req-1"));
    let Ok(command) = parse("audit verify") else { panic!("what is missing is said with exit code 64") };
    let (code, _, err) = run_it(&command);
    assert_eq!((code, err.as_str()), (64, "error: say which journal: a directory, or --config FILE\n"));
    let Ok(command) = parse("audit verify .") else { panic!("a key is asked for later") };
    assert_eq!(run_it(&command).0, 64);
}

#[test]
fn a_query_gives_the_records_that_fit_and_nothing_a_terminal_would_obey() {
    let scene = Scene::new();
    let (code, out, _) = scene.query(|_| {});
    assert_eq!(code, 0);
    assert!(!out.contains('\u{1b}'), "{out:?}");
    assert!(
        out.contains("loopiq_\\u{1b}[31mred") && out.contains("policy_denied") && out.contains("executed 200"),
        "{out}"
    );
    let count = |change: fn(&mut Query)| {
        let (code, out, err) = scene.query(|query| {
            query.json = true;
            change(query);
        });
        assert_eq!(code, 0, "{err}");
        out.lines().count()
    };
    assert_eq!(count(|_| {}), 4);
    assert_eq!(count(|query| query.code = Some("policy_denied".to_owned())), 1);
    assert_eq!(count(|query| query.request_id = Some("req-1".to_owned())), 2);
    assert_eq!(count(|query| query.tool = Some("loopiq_get_release".to_owned())), 2);
    assert_eq!(count(|query| query.stage = Some("denied".to_owned())), 1);
    assert_eq!(count(|query| query.user = Some("nobody".to_owned())), 0);
    assert_eq!(count(|query| query.since = Some("1970-01-01T00:00:02Z".to_owned())), 1);
    assert_eq!(count(|query| query.until = Some("1970-01-01T00:00:01.05Z".to_owned())), 2);
    assert_eq!(count(|query| query.limit = 2), 2);
    assert_eq!(count(|query| query.limit = 0), 4);
    let (code, _, err) = scene.query(|query| query.since = Some("yesterday".to_owned()));
    assert_eq!(code, 2);
    assert!(err.contains("`yesterday` is no time"), "{err}");
}

/// One of each kind that hides or reorders text, or that a terminal obeys.
const HIDDEN: [char; 12] = [
    '\u{7f}',
    '\u{85}',
    '\u{9b}',
    '\u{ad}',
    '\u{61c}',
    '\u{200b}',
    '\u{202e}',
    '\u{2028}',
    '\u{2066}',
    '\u{feff}',
    '\u{e0041}',
    '\u{10fffd}',
];

#[test]
fn nothing_hidden_reaches_a_terminal_in_any_form_and_json_stays_the_same_json() {
    let scene = Scene::empty();
    let tool = format!("tool{}end", HIDDEN.iter().collect::<String>());
    let mut refused = request(1, &tool);
    refused.refused(&Refusal::because(Code::PolicyDenied, format!("not for {tool}")).into());
    scene.boot(vec![refused.stage(Stage::Denied, 1_001)]);
    std::fs::write(scene.journal().join(format!("gateway-1/9-0.jsonl.torn{tool}")), "").unwrap();
    // A line that is no record of ours, but JSON: white space between its members is of the forger's choice.
    let forged = serde_json::json!({"metadata": {"correlation_uid": tool}, "api": {"request": {"uid": tool}}});
    let forged = forged.to_string().replace(':', "\r:\t");
    let segment = std::fs::read_to_string(scene.segment()).unwrap();
    std::fs::write(scene.segment(), format!("{segment}{forged}\n")).unwrap();
    let verify = |json| Verify {
        place: scene.place(),
        keys: vec![scene.public.clone()],
        checkpoints: vec![],
        unsigned_seconds: 10,
        json,
    };
    let show = |json, id: &str| Command::Show(Show { place: scene.place(), id: id.to_owned(), json });
    let query = |json| Command::Query(Query { place: scene.place(), json, ..Query::default() });
    for command in [
        query(false),
        query(true),
        show(false, "req-1"),
        show(true, "req-1"),
        show(false, &tool),
        show(true, &tool),
        show(false, &format!("no {tool}")),
        Command::Verify(verify(false)),
        Command::Verify(verify(true)),
    ] {
        let (_, out, err) = run_it(&command);
        assert_eq!(err, "", "{command:?}");
        assert!(!out.contains(|c: char| HIDDEN.contains(&c) || (c.is_control() && c != '\n')), "{command:?}: {out:?}");
    }
    let (_, table, _) = run_it(&query(false));
    assert!(table.contains("tool\\u{7f}"), "{table}");
    let (_, out, _) = run_it(&show(true, "req-1"));
    let record: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(record["unmapped"]["loopgate"]["tool"], tool.as_str(), "escaped, not lost: {out}");
    assert!(out.contains("\\udb40\\udc41"), "beyond the first plane it is a pair: {out}");
    let (_, out, _) = run_it(&show(true, &tool));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["metadata"]["correlation_uid"], tool.as_str());
    let (code, out, _) = run_it(&Command::Verify(verify(true)));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["writers"][0]["findings"][0]["request_id"]), (1, &Value::from(tool.as_str())), "{out}");
}

#[test]
fn an_action_is_told_by_any_of_its_ids() {
    let scene = Scene::new();
    for id in ["req-1", "key-1", "gateway-1/1/1", "gateway-1/1/2"] {
        let (code, out) = scene.show(id);
        assert_eq!(code, 0, "{id}: {out}");
        let intent = out.find("intent").unwrap();
        assert!(out.find("outcome  executed 200").unwrap() > intent, "{out}");
        assert!(out.contains("records  rel-1") && !out.contains("req-2"), "{out}");
    }
    let (_, out) = scene.show("4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(
        out.contains("req-1") && out.contains("req-2") && out.contains("because  policy_denied: not for `viewer`"),
        "{out}"
    );
    assert_eq!(scene.show("rel-1").1, scene.show("req-1").1, "the write that made the record");
    assert_eq!(scene.show("req-9").0, 1);
    assert_eq!(scene.show("gateway-1/9/9").0, 1);
}

/// One approved write: asked for, voted on by somebody else, carried out, answered again.
#[test]
fn one_action_is_told_whole_over_all_its_requests_and_in_their_order() {
    let scene = Scene::empty();
    let of = |n: i64, user: &str, approval: Option<&str>, execution: Option<&str>| {
        let mut record = request(n, "loopiq_create_remediation_work_package");
        record.caller(&principal("i", user, "org_gcn"), Some(&tenant("org_gcn")));
        record.keyed(if user == "otto" { "" } else { "k" }, execution);
        if let Some(approval) = approval {
            record.approved_by(approval);
        }
        record
    };
    let done = |mut record: Record, at: i64, replayed: bool| {
        record.answered(Answered {
            execution: Execution::Executed,
            backend_status: Some(201),
            bytes: 9,
            record_ids: vec!["WP-1".to_owned()],
            replayed,
        });
        record.stage(Stage::Outcome, at)
    };
    let mut voting = of(2, "otto", Some("apr_1"), None);
    let look = |n: i64| {
        let mut record = of(n, "otto", Some("apr_1"), None);
        record.asked("approvals.show", Era::Modern);
        record.stage(Stage::Outcome, 1_500 + n)
    };
    scene.boot(vec![
        of(1, "ada", Some("apr_1"), None).stage(Stage::Approval("requested"), 1_001),
        look(6),
        look(7),
        voting.stage(Stage::Approval("vote"), 2_001),
        voting.stage(Stage::Approval("approved"), 2_002),
        of(3, "ada", Some("apr_1"), Some("x1")).stage(Stage::Intent, 3_001),
        done(of(3, "ada", Some("apr_1"), Some("x1")), 3_002, false),
        done(of(4, "ada", None, Some("x1")), 400_001, true),
        of(5, "ben", None, None).stage(Stage::Denied, 500_001),
    ]);
    let (_, whole) = scene.show("apr_1");
    for id in ["x1", "WP-1", "req-2", "req-4", "gateway-1/1/2"] {
        assert_eq!(scene.show(id), (0, whole.clone()), "{id}");
    }
    let mut last = 0;
    for step in [
        "who          ada in org_gcn",
        "approval     apr_1",
        "- ada, tools/call, request req-1",
        "approval.requested",
        "- read by otto (2 times)",
        "- otto, tools/call, request req-2",
        "approval.vote",
        "approval.approved",
        "request req-3",
        "intent",
        "outcome  executed 201",
        "records  WP-1",
        "request req-4",
        "+6 min  outcome",
        "an earlier answer given again",
    ] {
        let at = whole.get(last..).and_then(|rest| rest.find(step)).unwrap_or_else(|| panic!("{step}: {whole}"));
        last += at;
    }
    assert!(!whole.contains("ben") && !whole.contains("req-5"), "{whole}");
}

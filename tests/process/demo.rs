//! `loopgate demo`: the line that programs read, the commands that people paste, and what is left.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::AT_ONCE;
use crate::harness::FREE;
use crate::harness::Process;
use crate::harness::Stream;
use crate::harness::loopgate;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::run_this;
use crate::harness::shown;
use crate::harness::until;

const FREE_PORTS: [&str; 7] = ["demo", "--mcp", FREE, "--admin", FREE, "--backend", FREE];

/// The command, with a temporary directory of its own.
fn demo(temporary: &Path, more: &[&str]) -> Command {
    let mut command = loopgate(&[&FREE_PORTS, more].concat());
    command.env("TMPDIR", temporary);
    command
}

/// Starts one and reads its line.
fn ready(temporary: &Path, more: &[&str]) -> (Process, Value) {
    let mut process = Process::start(demo(temporary, &[&["--json"], more].concat()));
    let line = process.line(Stream::Out, "{");
    (process, serde_json::from_str(&line).unwrap())
}

fn token(said: &Value, user: &str) -> String {
    let users = said["users"].as_array().unwrap();
    users.iter().find(|row| row["user"] == user).unwrap()["token"].as_str().unwrap().to_owned()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn one_line_of_json_tells_programs_all_they_need() {
    let temporary = tempfile::tempdir().unwrap();
    let (process, said) = ready(temporary.path(), &[]);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let expected = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(&said), expected(&["mcp", "admin", "backend", "dir", "pid", "users"]));
    assert_eq!(said["pid"], process.id());
    assert!(Path::new(said["dir"].as_str().unwrap()).is_dir());
    let cast: Vec<&str> = said["users"].as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap()).collect();
    assert_eq!(cast, ["ada", "ben", "vic", "otto", "tess", "cleo", "nora", "svc-pipeline"]);
    for row in said["users"].as_array().unwrap() {
        assert_eq!(names(row), expected(&["user", "tenants", "roles", "token"]));
        assert!(row["tenants"].is_array() && row["roles"].is_array(), "{row}");
    }
    let result = read_certification(said["mcp"].as_str().unwrap(), &token(&said, "ada")).unwrap();
    assert_eq!(result["isError"], false, "{result:#}");
    for (url, path) in [("admin", "/readyz"), ("backend", "/healthz")] {
        let url = format!("{}{path}", said[url].as_str().unwrap());
        assert_eq!(crate::harness::get(&url).unwrap().0, 200, "{url}");
    }
    assert_eq!(process.said(Stream::Out).lines().count(), 1, "one line and no more");
    process.stop();
}

/// The commands under each numbered heading, as somebody would mark and copy them.
fn commands(text: &str) -> Vec<String> {
    let (_, text) = text.split_once("try, in another terminal:").unwrap();
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().take_while(|line| !line.starts_with("Ctrl-C")) {
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            found.push(String::new());
        } else if let (Some(command), false) = (found.last_mut(), line.is_empty()) {
            command.extend([line, "\n"]);
        }
    }
    found
}

#[test]
fn every_command_it_prints_works_when_pasted_wherever_its_directory_is() {
    let temporary = tempfile::tempdir().unwrap();
    let awkward = temporary.path().join("it's a $HOME");
    for keep in [None, Some(shown(&awkward))] {
        let more = keep.as_ref().map_or(vec![], |dir| vec!["--keep", dir]);
        let mut process = Process::start(demo(temporary.path(), &more));
        process.line(Stream::Out, "Ctrl-C stops it.");
        let commands = commands(&process.said(Stream::Out));
        let expected: [&[&str]; 3] = [
            &["\"isError\":false", "cert-backend-v1.0-GCN"],
            &["\"isError\":true", "approval_required", "certification_approver"],
            &["approval_required", "executed 200", "fine"],
        ];
        assert_eq!(commands.len(), expected.len(), "{commands:?}");
        for (command, expected) in commands.iter().zip(expected) {
            let mut bash = Command::new("bash");
            bash.args(["-ec", command]);
            let said = run_this(bash).exits(0);
            assert!(expected.iter().all(|words| said.out.contains(words)), "{command}\n{said:#?}");
            assert!(said.out.ends_with('\n') && said.err.is_empty(), "{command}\n{said:#?}");
        }
        process.stop();
    }
}

#[test]
fn either_signal_ends_it_at_once_and_nothing_is_left() {
    for signal in [Signal::INT, Signal::TERM] {
        let temporary = tempfile::tempdir().unwrap();
        let (mut process, said) = ready(temporary.path(), &[]);
        assert!(!is_empty(temporary.path()));
        // Clients that stay connected and say nothing hold nobody up.
        let door = said["mcp"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let _idle = TcpStream::connect(&door).unwrap();
        read_certification(said["mcp"].as_str().unwrap(), &token(&said, "ada")).unwrap();
        process.signal(signal);
        assert_eq!(process.ended(AT_ONCE), 0, "{}", process.said(Stream::Err));
        assert!(is_empty(temporary.path()), "{signal:?} left something behind");
        assert_eq!(process.said(Stream::Err), "");
    }
}

#[test]
fn a_signal_while_it_starts_leaves_nothing_either() {
    let temporary = tempfile::tempdir().unwrap();
    let mut process = Process::start(demo(temporary.path(), &[]));
    until("the scratch directory", || (!is_empty(temporary.path())).then_some(()));
    process.signal(Signal::TERM);
    assert_eq!(process.ended(AT_ONCE), 0, "{}", process.said(Stream::Err));
    assert!(is_empty(temporary.path()));
}

#[test]
fn an_address_in_use_is_exit_3_names_it_and_leaves_nothing() {
    let taken = TcpListener::bind(FREE).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for option in ["--mcp", "--admin", "--backend"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = loopgate(&["demo", option, &taken]);
        for other in ["--mcp", "--admin", "--backend"].into_iter().filter(|other| *other != option) {
            command.args([other, FREE]);
        }
        command.env("TMPDIR", temporary.path());
        let said = run_this(command).exits(3);
        assert!(said.err.starts_with("error: the demo cannot start: ") && said.err.contains(&taken), "{said:?}");
        let named =
            if option == "--backend" { "the sandbox cannot listen".to_owned() } else { format!("`{option}` cannot") };
        assert!(said.err.contains(&named) && said.err.contains("port 0 for a free one"), "{said:?}");
        assert_eq!((said.out.as_str(), said.err.lines().count()), ("", 1), "{said:?}");
        assert!(is_empty(temporary.path()), "{option}");
    }
}

#[test]
fn a_kept_directory_is_gone_on_with_and_its_tokens_stay_good() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = shown(&temporary.path().join("kept"));
    let (process, first) = ready(temporary.path(), &["--keep", &kept]);
    read_certification(first["mcp"].as_str().unwrap(), &token(&first, "ada")).unwrap();
    let second_of_two = run_this(demo(temporary.path(), &["--keep", &kept])).exits(3);
    assert!(second_of_two.err.contains("audit"), "a running demo's directory is its own: {second_of_two:?}");
    process.stop();
    let (process, again) = ready(temporary.path(), &["--keep", &kept]);
    let result = read_certification(again["mcp"].as_str().unwrap(), &token(&first, "ada")).unwrap();
    assert_eq!(crate::harness::audit_ref(&result), "demo/2/3", "the journal goes on with its next epoch");
    process.stop();
    let said = run(&["audit", "verify", "--config", &format!("{kept}/gateway.yaml")]).exits(0);
    assert!(said.out.contains("fine") && said.out.contains("2 epochs"), "{said:?}");
}

#[test]
fn keys_and_tokens_are_for_their_owner_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let (process, said) = ready(temporary.path(), &[]);
    let dir = Path::new(said["dir"].as_str().unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700);
    for name in ["tokens/ada", "keys/audit.pem", "keys/assertion.pem", "issuers/people/dev-issuer.pem"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    process.stop();
}

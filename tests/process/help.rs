//! `--help` of every command, and what wrong words come to.

use std::collections::BTreeSet;

use crate::harness::loopgate;
use crate::harness::run;
use crate::harness::run_this;

/// Every command, found by asking the help itself.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        found.extend(children(&help(&path)).into_iter().map(|name| [path.clone(), vec![name]].concat()));
        at += 1;
    }
    found
}

fn help(path: &[String]) -> String {
    let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let mut command = loopgate(&words);
    command.env("COLUMNS", "100");
    run_this(command).exits(0).out
}

fn children(help: &str) -> Vec<String> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = listed.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_fits_and_is_of_one_style() {
    let commands = commands();
    let top: BTreeSet<&str> = commands.iter().filter_map(|path| path.first()).map(String::as_str).collect();
    let expected = [
        "approvals",
        "audit",
        "catalog",
        "check",
        "demo",
        "doctor",
        "keys",
        "policy",
        "sandbox",
        "serve",
        "token",
        "writes",
    ];
    assert_eq!(top, expected.into_iter().collect());
    for path in &commands {
        let text = help(path);
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{path:?}: {wide:#?}");
        assert!(text.contains("\nUsage: loopgate"), "{path:?}: {text}");
        assert!(!text.contains("check-child"), "what the gateway starts for itself is not for people: {text}");
        let about = text.lines().next().unwrap();
        assert!(about.starts_with(char::is_uppercase), "{path:?}: {about}");
        for line in text.lines().filter(|line| line.starts_with("  ") && line.contains("  ")) {
            assert!(!line.ends_with('.'), "a full stop in {path:?}: {line}");
        }
    }
}

#[test]
fn wrong_words_are_exit_2_but_where_2_means_something_else() {
    for path in commands() {
        let mut words: Vec<&str> = path.iter().map(String::as_str).collect();
        words.push("--no-such-option");
        let said = run(&words).exits(if path == ["audit", "verify"] { 64 } else { 2 });
        assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{said:?}");
    }
    for words in [vec!["serv"], vec!["audit", "verfy"], vec!["check"], vec!["catalog", "show"]] {
        run(&words).exits(2);
    }
    assert!(run(&["serv"]).err.contains("'serve'"), "a mistyped command gets the nearest one");
}

#[test]
fn no_words_at_all_show_where_to_start_and_version_is_one_line() {
    let said = run(&[]).exits(2);
    assert!(said.err.contains("Start here:") && said.err.contains("loopgate demo"), "{said:?}");
    let said = run(&["--version"]).exits(0);
    assert_eq!(said.out, format!("loopgate {}\n", env!("CARGO_PKG_VERSION")));
}

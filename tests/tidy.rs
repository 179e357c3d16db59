//! The house keeps its shape: arrows between rooms, sizes, opening words, generated files.
//!
//! A text scan, so that a wrong arrow is named with its file and line.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Rooms by layer. A room may import rooms of lower layers; never one of its own layer or above.
const LAYERS: &[&[&str]] = &[
    &["domain::refusal"],
    &["domain::canonical"],
    &["domain::mcp", "domain::identity", "domain::limit"],
    &["domain::upstream"],
    &["domain::catalog"],
    &["domain::pdp"],
    &["domain::approval", "domain::idempotency", "domain::inspect"],
    &["domain::audit"],
    &["domain::replay"],
    &["domain::rollout"],
    &["metrics", "config"],
    &["pep"],
    &["adapters::tls", "adapters::address", "adapters::fetch"],
    &["adapters", "console", "sandbox"],
    &["app"],
    &["cli::print"],
    &["cli::remote"],
    &["cli"],
];

/// Words that mean IO, time, randomness or waiting. `domain/` knows none of them.
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Uuid::now",
    "SystemRandom",
    "tokio",
    "pingora",
    "reqwest",
    "axum",
    "rusqlite",
    "async fn",
];

/// Every source file but those of tests.
fn sources() -> Vec<(PathBuf, String)> {
    let all = files();
    let tests: Vec<bool> = all.iter().map(|(path, _)| is_test(path, &all)).collect();
    all.into_iter().zip(tests).filter(|(_, test)| !test).map(|(file, _)| file).collect()
}

fn files() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    walk(Path::new("src"), &mut out);
    assert!(out.len() > 20, "the sources were found");
    out
}

/// `src/domain/pdp/lint.rs` -> `domain::pdp`; `src/adapters/journal.rs` -> `adapters::journal`.
fn room(path: &Path) -> String {
    let parts: Vec<&str> =
        path.with_extension("").iter().skip(1).map(|part| part.to_str().unwrap().to_owned().leak() as &str).collect();
    match parts.as_slice() {
        [top @ ("domain" | "adapters" | "cli"), room, ..] => format!("{top}::{room}"),
        [top, ..] => (*top).to_owned(),
        [] => unreachable!("every source has a name"),
    }
}

fn layer(room: &str) -> Option<usize> {
    let top = room.split("::").next().unwrap();
    LAYERS.iter().position(|rooms| rooms.contains(&room) || (top != "domain" && rooms.contains(&top)))
}

/// Source without its tests: everything before the first test module.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// A file that holds nothing but tests, or what only tests use.
fn is_test(path: &Path, all: &[(PathBuf, String)]) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let parent = path.parent().unwrap();
    let declared =
        ["mod", "pub mod", "pub(crate) mod", "pub(super) mod"].map(|word| format!("#[cfg(test)]\n{word} {stem};"));
    let is_child =
        |of: &Path| of.with_extension("") == parent || of == Path::new("src/lib.rs") && parent == Path::new("src");
    all.iter().any(|(of, text)| is_child(of) && declared.iter().any(|line| text.contains(line)))
        || (parent != Path::new("src") && is_test(&parent.with_extension("rs"), all))
}

/// Rooms that a line names through `crate::`.
fn imports(line: &str) -> Vec<String> {
    let line = line.split("//").next().unwrap();
    let mut found = Vec::new();
    for part in line.split("crate::").skip(1) {
        let path: Vec<&str> =
            part.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap().split("::").collect();
        match path.as_slice() {
            [top @ ("domain" | "adapters" | "cli"), room, ..] if !room.is_empty() => {
                found.push(format!("{top}::{room}"));
            }
            [top, ..] => found.push((*top).to_owned()),
            [] => {}
        }
    }
    found
}

#[test]
fn a_room_imports_only_from_rooms_above_it() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = room(&path);
        let Some(from_layer) = layer(&from) else { continue };
        for (number, line) in code(&text).lines().enumerate() {
            for to in imports(line) {
                if to == from || matches!(to.as_str(), "domain" | "adapters" | "cli") {
                    continue;
                }
                match layer(&to) {
                    Some(to_layer) if to_layer < from_layer => {}
                    Some(_) => wrong.push(format!("{}:{}: {from} imports {to}", path.display(), number + 1)),
                    None => wrong.push(format!("{}:{}: `{to}` is no room", path.display(), number + 1)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn the_domain_knows_no_io_no_clock_no_randomness_and_never_waits() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !room(&path).starts_with("domain::") {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            let line = line.split("//").next().unwrap();
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "impure lines in domain/:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_promises() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! ") || text.lines().next().unwrap().len() < 20)
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no opening words: {silent:?}");
}

#[test]
fn a_file_is_a_sitting() {
    let long: BTreeMap<_, _> = sources()
        .into_iter()
        .map(|(path, text)| (path, code(&text).lines().count()))
        .filter(|(_, lines)| *lines > 500)
        .collect();
    assert!(long.is_empty(), "over 500 lines of code: {long:?}");
}

#[test]
fn nothing_is_left_open_in_the_tree() {
    let markers = ["TODO", "FIXME", "XXX", concat!("unimplemented", "!"), concat!("todo", "!(")];
    let mut open = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker)) {
                open.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_scan_would_see_a_wrong_arrow() {
    assert_eq!(imports("use crate::pep::Pep;"), ["pep"]);
    assert_eq!(imports("    let x = crate::adapters::journal::open();"), ["adapters::journal"]);
    assert!(imports("// see crate::pep").is_empty());
    assert!(layer("domain::pdp") < layer("pep"));
    assert_eq!(layer("adapters::door"), layer("adapters::journal"));
    assert_eq!(layer("nowhere"), None);
}

/// Compares a committed document with what the code generates; `UPDATE=1` writes it instead.
fn generated(path: &str, fresh: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, fresh).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(committed == fresh, "{path} is out of date: run `UPDATE=1 cargo test --test tidy`");
}

#[test]
fn the_settings_schema_is_up_to_date() {
    let schema = serde_json::to_string_pretty(&loopgate::config::schema()).unwrap() + "\n";
    generated("config/schema.json", &schema);
}

#[test]
fn the_settings_reference_shows_every_option_at_its_default() {
    use loopgate::config::{RawBackend, RawConfig, RawIssuer};
    let text = fs::read_to_string("config/gateway.yaml").unwrap();
    let shown: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let raw: RawConfig = serde_json::from_value(shown.clone()).unwrap();
    let expected = RawConfig {
        issuers: vec![RawIssuer {
            name: "main".into(),
            issuer: raw.issuers[0].issuer.clone(),
            keys: raw.issuers[0].keys.clone(),
            ..Default::default()
        }],
        backends: vec![RawBackend { url: raw.backends[0].url.clone(), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(shown, serde_json::to_value(&expected).unwrap(), "every option stands there, at its default");
    loopgate::config::parse(&text, Path::new("config")).unwrap();
}

#[test]
fn every_example_of_settings_loads() {
    let examples: Vec<_> = fs::read_dir("config/examples").unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!examples.is_empty());
    for path in examples.iter().filter(|path| path.extension().is_some_and(|ext| ext == "yaml")) {
        let settings = loopgate::config::load(path).unwrap_or_else(|faults| panic!("{}: {faults:?}", path.display()));
        assert!(settings.catalog.exists() && settings.policy.dir.exists(), "{}", path.display());
    }
}

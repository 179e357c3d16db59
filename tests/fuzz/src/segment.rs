//! Journal segments: an altered journal is never found to be in order, and never stops anybody.
//!
//! A journal of two epochs and three segments, closed and signed to its end, is made once. The first
//! byte says what the rest is:
//! - edits to it, after which the verifier, given the checkpoints that were kept elsewhere, finds
//!   nothing only where nothing was changed;
//! - edits, after which a gateway opens it, goes on, and stops: what was altered is still found;
//! - the bytes of a line, of a file of checkpoints, or the names of files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use loopgate::adapters::journal::{Journal, Settings, SigningKey, check, read};
use loopgate::domain::audit::chain::{Chain, Previous};
use loopgate::domain::audit::checkpoint::{Checkpoint, Signer, split_notes};
use loopgate::domain::audit::line::{Line, Recovered, SegmentName, read_origin, request_id_of};
use loopgate::domain::audit::record::{Record, Stage};
use loopgate::domain::audit::verify::Verifier;
use loopgate::domain::identity::signing;

const NOW: i64 = 1_800_000_000_000;
/// How much time may go without a signature; the journal here is signed to its end.
const UNSIGNED_MS: i64 = 60_000;

/// Segments by name, as they are on a disk.
type Files = BTreeMap<SegmentName, Vec<u8>>;

/// The genuine journal, what was signed of it, and the key.
struct Genuine {
    files: Files,
    notes: String,
    checkpoints: Vec<Checkpoint>,
    pem: String,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| make("event"));
/// The same but for the last record, every hash of it as it must be: only what was signed tells.
static FORGED: LazyLock<Genuine> = LazyLock::new(|| make("forged"));

fn make(last_word: &str) -> Genuine {
    let pem =
        signing::SigningKey::generate(&[3; 32]).expect("32 bytes are a key").to_pkcs8_pem().expect("it has a form");
    let signer = Signer::from_pem(&pem).expect("it is a key");
    let (mut files, mut checkpoints) = (Files::new(), Vec::new());
    let said = |word: &str, number: i64| {
        Record::event(Stage::Config("loaded"), NOW + number, format!("{word} {number}")).body()
    };
    let event = |number: i64| said("event", number);
    let start = |prev_epoch, prev_size, prev_head: String| {
        Record::recovered(NOW, &Recovered::Start { prev_epoch, prev_size, prev_head, bytes_dropped: 0 }).body()
    };
    let mut sign = |chain: &Chain, closed| {
        checkpoints.push(Checkpoint { origin: chain.origin(), size: chain.size(), root: chain.root(), closed });
    };
    let mut chain = Chain::begin("fuzz", "w", 1, None);
    let mut out = Vec::new();
    chain.push(&start(0, 0, "0".repeat(64)), &mut out);
    chain.push(&event(1), &mut out);
    sign(&chain, false);
    chain.push(&event(2), &mut out);
    files.insert(SegmentName { epoch: 1, first: 0 }, std::mem::take(&mut out));
    chain.push(&event(3), &mut out);
    chain.push(&event(4), &mut out);
    sign(&chain, true);
    let last = out.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).expect("there are lines");
    let previous = Previous::of(&Line::read(last).expect("it is a line"));
    let (size, head) = (chain.size(), previous.leaf.to_string());
    files.insert(SegmentName { epoch: 1, first: 3 }, std::mem::take(&mut out));
    let mut chain = Chain::begin("fuzz", "w", 2, Some(previous));
    chain.push(&start(1, size, head), &mut out);
    chain.push(&said(last_word, 5), &mut out);
    sign(&chain, true);
    files.insert(SegmentName { epoch: 2, first: 0 }, out);
    let notes = checkpoints.iter().map(|checkpoint| checkpoint.to_note(&signer) + "\n").collect();
    Genuine { files, notes, checkpoints, pem }
}

/// Holds of any bytes.
pub fn holds(mut data: &[u8]) {
    let [kind] = super::take(&mut data);
    match kind % 4 {
        0 | 1 => {
            let files = edited(data);
            let found = verified(&files, &GENUINE.checkpoints);
            assert!(found.is_err() || is_whole(&files), "found to be in order: {found:?}");
            assert!(found.is_ok() || files != GENUINE.files, "the genuine one is not: {found:?}");
        }
        2 => taken_over(&edited(data)),
        _ => pieces(data),
    }
}

/// The genuine files after edits: six bytes to each, then what it puts in.
fn edited(mut data: &[u8]) -> Files {
    let mut files = GENUINE.files.clone();
    while let [_, _, _, _, _, ..] = data {
        let [which, what, count] = super::take(&mut data);
        let place = usize::from(u16::from_le_bytes(super::take(&mut data)));
        let Some(name) = files.keys().nth(usize::from(which) % files.len().max(1)).copied() else { break };
        let Some(bytes) = files.get_mut(&name) else { break };
        let at = place % (bytes.len() + 1);
        let (with, rest) = data.split_at(usize::from(count).min(data.len()));
        match what % 8 {
            0 => {
                bytes.splice(at..bytes.len().min(at + with.len()), with.iter().copied());
            }
            1 => {
                bytes.splice(at..at, with.iter().copied());
            }
            2 => bytes.truncate(at),
            3 if count == u8::MAX => files = FORGED.files.clone(),
            3 => drop(files.remove(&name)),
            4 => {
                let copy = bytes.clone();
                files.insert(SegmentName { epoch: u64::from(count) % 4, first: u64::from(which) % 8 }, copy);
            }
            other => lines(bytes, other, place, usize::from(count)),
        }
        if matches!(what % 8, 0 | 1) {
            data = rest;
        }
    }
    files
}

/// Whether every record is there and nothing else. A file without a byte is what a crash leaves of one that began.
fn is_whole(files: &Files) -> bool {
    files.iter().filter(|(_, bytes)| !bytes.is_empty()).eq(&GENUINE.files)
}

/// A line taken out, said twice, or put elsewhere.
fn lines(bytes: &mut Vec<u8>, what: u8, from: usize, to: usize) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    // A line without an end doubles with every copy of it.
    if lines.is_empty() || bytes.len() > 1 << 16 {
        return;
    }
    let (from, to) = (from % lines.len(), to % lines.len());
    let line = if what == 6 { lines.get(from).cloned().unwrap_or_default() } else { lines.remove(from) };
    if what != 5 {
        lines.insert(to.min(lines.len()), line);
    }
    *bytes = lines.concat();
}

/// What the verifier says, reading the files as `journal::read` does.
fn verified(files: &Files, checkpoints: &[Checkpoint]) -> Result<u64, String> {
    let mut verifier = Verifier::new("w", checkpoints).map_err(|finding| finding.what)?;
    let names: Vec<SegmentName> = files.keys().copied().collect();
    for (index, (name, bytes)) in files.iter().enumerate() {
        let next = names.get(index + 1).filter(|next| next.epoch == name.epoch).map(|next| next.first);
        verifier.begin(*name, next).map_err(|finding| finding.what)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let read = match line.strip_suffix(b"\n") {
                Some(line) => verifier.line(line),
                None => verifier.torn(line),
            };
            read.map_err(|finding| finding.what)?;
        }
    }
    verifier.finish(UNSIGNED_MS).map(|summary| summary.records).map_err(|finding| finding.what)
}

/// A gateway opens what it finds; whatever it makes of it, the checkpoints still tell.
fn taken_over(files: &Files) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let own = dir.path().join("w");
    std::fs::create_dir(&own).expect("a directory can be made");
    for (name, bytes) in files {
        std::fs::write(own.join(name.to_string()), bytes).expect("a file can be written");
    }
    std::fs::write(own.join("checkpoints"), &GENUINE.notes).expect("a file can be written");
    let key = SigningKey::Pem(GENUINE.pem.clone());
    let settings = Settings::new(dir.path().to_owned(), "w".to_owned(), "fuzz".to_owned(), key);
    let opened = Journal::open(settings, Arc::new(|| NOW + 10_000)).expect("whatever is there, a gateway can go on");
    let public = *opened.public_key();
    opened.close().expect("the disk is well");
    let fine = checked(dir.path(), &public);
    // What is no record was moved aside; what is left under the name of a segment is what counts.
    let epoch = opened.opening().epoch;
    let left: Files = std::fs::read_dir(&own)
        .expect("it can be read")
        .filter_map(|entry| SegmentName::read(entry.expect("it can be read").file_name().to_str()?))
        .filter(|name| name.epoch < epoch)
        .map(|name| (name, std::fs::read(own.join(name.to_string())).expect("it can be read")))
        .collect();
    assert!(!fine || is_whole(&left), "found to be in order: {:?}", opened.opening());
    assert!(fine || *files != GENUINE.files, "the genuine one is not: {:?}", opened.opening());
}

fn checked(dir: &Path, key: &loopgate::domain::audit::checkpoint::PublicKey) -> bool {
    let series = read::series(dir).expect("it can be read");
    let [series] = series.as_slice() else { panic!("{} writers", series.len()) };
    let checked = check::check(series, &series.notes, std::slice::from_ref(key), UNSIGNED_MS, |_, _, _| {});
    checked.expect("it can be read").findings.is_empty()
}

fn pieces(data: &[u8]) {
    if let Ok(line) = Line::read(data) {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok(), "a line is JSON");
        assert_eq!(line.at().to_string().parse().as_ref(), Ok(&line.at()), "a place is read as it is written");
    }
    drop(request_id_of(data));
    let text = String::from_utf8_lossy(data);
    let (notes, left) = split_notes(&text);
    assert!(left <= text.len());
    let public = Signer::from_pem(&GENUINE.pem).expect("it is a key").public();
    for note in notes {
        if let Ok(checkpoint) = Checkpoint::verify(note, std::slice::from_ref(&public)) {
            assert!(GENUINE.checkpoints.contains(&checkpoint), "a checkpoint that nobody signed: {note}");
        }
    }
    for name in text.split_whitespace() {
        if let Some(segment) = SegmentName::read(name) {
            assert_eq!(segment.to_string(), name, "two names for one segment");
        }
        if let Some((deployment, writer, epoch)) = read_origin(name) {
            assert!(name.starts_with(&format!("{deployment}/{writer}/")) && name.ends_with(&epoch.to_string()));
        }
    }
}

//! The journal's writer on a disk that does its worst.

mod forged;
mod whole;

use std::collections::BTreeSet;

use super::sim::{Op, SimDisk};
use super::writer::Now;
use super::*;
use crate::domain::audit::checkpoint::tests::signer;
use crate::domain::audit::checkpoint::{Checkpoint, split_notes};
use crate::domain::audit::finding::{Finding, Kind, Summary};
use crate::domain::audit::line::{Line, SegmentName};
use crate::domain::audit::record::{Opened, Record};
use crate::domain::audit::verify::Verifier;

const SECOND: Duration = Duration::from_secs(1);

fn plan() -> Plan {
    Plan {
        deployment: "demo".to_owned(),
        writer: "w".to_owned(),
        signer: signer(1),
        segment_bytes: 1 << 30,
        segment_age: Duration::from_hours(1),
        sign_every: SECOND,
        heartbeat_every: 60 * SECOND,
        probe_every: SECOND,
        low_water_bytes: 0,
    }
}

fn at(seconds: u64) -> Now {
    Now { wall_ms: i64::try_from(seconds * 1000).unwrap(), steady: Duration::from_secs(seconds) }
}

fn request(name: &str) -> Record {
    Record::open(Opened { request_id: name.to_owned(), method: "tools/call".to_owned(), ..Opened::default() })
}

fn body(name: &str) -> Body {
    request(name).body()
}

fn open(disk: &SimDisk) -> Writer<SimDisk> {
    Writer::open(disk.clone(), plan(), at(0)).map(|(writer, _)| writer).unwrap()
}

fn segments(disk: &SimDisk) -> Vec<SegmentName> {
    let mut segments: Vec<_> = disk.names().unwrap().iter().filter_map(|name| SegmentName::read(name)).collect();
    segments.sort_unstable();
    segments
}

/// What `loopgate audit verify` would say.
fn verify(disk: &SimDisk) -> Result<Summary, Box<Finding>> {
    let notes = String::from_utf8(disk.content("checkpoints")).unwrap();
    let checkpoints: Vec<Checkpoint> =
        split_notes(&notes).0.iter().map(|note| Checkpoint::verify(note, &[signer(1).public()]).unwrap()).collect();
    let mut verifier = Verifier::new("w", &checkpoints)?;
    let segments = segments(disk);
    for (index, name) in segments.iter().enumerate() {
        let next = segments.get(index + 1).filter(|next| next.epoch == name.epoch).map(|next| next.first);
        verifier.begin(*name, next)?;
        for piece in disk.content(&name.to_string()).split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) => verifier.line(line)?,
                None => verifier.torn(piece)?,
            }
        }
    }
    verifier.finish(5_000)
}

/// Request ids that count, in the order of the records.
fn recorded(disk: &SimDisk) -> Vec<String> {
    let mut ids = Vec::new();
    let segments = segments(disk);
    for (index, name) in segments.iter().enumerate() {
        let next = segments.get(index + 1).filter(|next| next.epoch == name.epoch).map(|next| next.first);
        for line in disk.content(&name.to_string()).split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let Ok(line) = Line::read(line) else { break };
            if next.is_none_or(|next| line.seq < next) {
                ids.extend(line.request_id.map(std::borrow::Cow::into_owned));
            }
        }
    }
    ids
}

#[test]
fn a_first_boot_begins_epoch_1_and_a_second_one_goes_on_from_its_last_record() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    let refs = writer.append(&[body("a"), body("b")], at(0)).unwrap();
    assert_eq!(refs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["w/1/1", "w/1/2"]);
    writer.close(at(1)).unwrap();
    drop(writer);
    let mut writer = open(&disk);
    assert_eq!(writer.append(&[body("c")], at(2)).unwrap()[0].to_string(), "w/2/1");
    writer.close(at(3)).unwrap();
    let summary = verify(&disk).unwrap();
    assert_eq!((summary.records, summary.epochs, summary.unsigned), (5, 2, 0));
}

#[test]
fn a_crash_at_any_byte_keeps_the_longest_valid_run_and_moves_the_rest_aside() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    writer.append(&[body("a"), body("b"), body("c")], at(0)).unwrap();
    drop(writer);
    let whole = disk.content("1-0.jsonl");
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    for cut in 0..=whole.len() {
        let crashed = disk.copy();
        crashed.put("1-0.jsonl", &whole[..cut]);
        let (writer, found) = Writer::open(crashed.clone(), plan(), at(9)).unwrap();
        let kept = ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0);
        assert_eq!(found.bytes_dropped, (cut - kept) as u64, "cut at {cut}");
        assert_eq!(crashed.content("1-0.jsonl"), &whole[..kept], "cut at {cut}");
        if kept < cut {
            assert_eq!(crashed.content("1-0.jsonl.torn"), &whole[kept..cut], "cut at {cut}");
        }
        let records = ends.iter().filter(|end| **end <= cut).count() as u64;
        // The start record was signed; with it gone, a checkpoint promises what is not there.
        let promised = u64::from(records == 0);
        assert_eq!(found.promised_missing, promised, "cut at {cut}");
        drop(writer);
        match verify(&crashed) {
            Ok(summary) => assert_eq!((summary.records, promised), (records + 1, 0), "cut at {cut}"),
            Err(finding) => assert_eq!((finding.kind, promised), (Kind::Missing, 1), "cut at {cut}: {finding:?}"),
        }
    }
}

#[test]
fn a_crash_while_recovering_is_recovered_from() {
    let disk = SimDisk::default();
    open(&disk).append(&[body("a"), body("b")], at(0)).unwrap();
    let mut torn = disk.content("1-0.jsonl");
    torn.truncate(torn.len() - 7);
    disk.put("1-0.jsonl", &torn);
    for op in [Op::Create, Op::Write, Op::Sync, Op::Truncate] {
        for skip in 0..6 {
            let failing = disk.copy();
            failing.fail(op, skip, 1);
            let outcome = Writer::open(failing.clone(), plan(), at(1));
            drop(outcome);
            for keep in [0, 11, usize::MAX] {
                let crashed = failing.crash(|_| keep);
                let (mut writer, _) = Writer::open(crashed.clone(), plan(), at(2)).unwrap();
                writer.append(&[body("z")], at(3)).unwrap();
                writer.close(at(4)).unwrap();
                assert_eq!(
                    verify(&crashed).map_err(|finding| format!("{op:?} {skip} {keep}: {finding:?}")).unwrap().unsigned,
                    0
                );
                assert_eq!(recorded(&crashed), ["a", "z"], "{op:?} {skip} {keep}");
            }
        }
    }
}

/// Every fault at every operation, then a crash that keeps more or less of what was not synced:
/// what was acknowledged is there, once, in order, and the journal verifies.
#[test]
fn an_acknowledged_record_survives_any_single_or_double_fault_and_a_crash() {
    for op in [Op::Write, Op::Sync, Op::Create, Op::Truncate] {
        for skip in 0..9 {
            for times in 1..=2 {
                for cannot_cut in [false, true] {
                    for keep in [0, 700, usize::MAX] {
                        let story =
                            format!("{op:?} after {skip} x{times}, cannot cut: {cannot_cut}, crash keeps {keep}");
                        survive(op, skip, times, cannot_cut, keep, &story);
                    }
                }
            }
        }
    }
}

fn survive(op: Op, skip: usize, times: usize, cannot_cut: bool, keep: usize, story: &str) {
    let disk = SimDisk::default();
    let mut writer = Writer::open(disk.clone(), Plan { segment_bytes: 4_000, ..plan() }, at(0)).unwrap().0;
    disk.fail(op, skip, times);
    if cannot_cut {
        disk.fail(Op::Truncate, 0, 1);
    }
    let mut acknowledged = Vec::new();
    for n in 1..12 {
        let names = [format!("{n}a"), format!("{n}b")];
        let bodies = [body(&names[0]), body(&names[1])];
        if let Ok(refs) = writer.append(&bodies, at(n)) {
            assert_eq!(refs.len(), 2, "{story}");
            acknowledged.extend(names);
        }
        writer.tick(at(n));
    }
    assert!(acknowledged.len() >= 14, "{story}: {}", acknowledged.len());
    let live = verify(&disk);
    assert!(live.is_ok(), "{story}: live {live:?}");
    let crashed = disk.crash(|_| keep);
    let (mut writer, _) = Writer::open(crashed.clone(), plan(), at(20)).unwrap();
    writer.append(&[body("last")], at(21)).unwrap();
    writer.close(at(22)).unwrap();
    let outcome = verify(&crashed);
    assert!(outcome.is_ok(), "{story}: {outcome:?}");
    let recorded = recorded(&crashed);
    assert_eq!(recorded.iter().collect::<BTreeSet<_>>().len(), recorded.len(), "{story}: a record stands twice");
    let kept: Vec<&String> = recorded.iter().filter(|id| acknowledged.contains(id)).collect();
    assert_eq!(kept, acknowledged.iter().collect::<Vec<_>>(), "{story}");
}

#[test]
fn a_failed_sync_is_never_asked_again_of_the_same_file() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    disk.fail(Op::Sync, 0, 1);
    writer.append(&[body("a")], at(1)).unwrap();
    assert_eq!(segments(&disk).len(), 2);
    let crashed = disk.crash(|_| 0);
    assert_eq!(recorded(&crashed), ["a"]);
}

#[test]
fn a_full_disk_refuses_without_a_lie_and_takes_records_again_when_there_is_room() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    writer.append(&[body("a")], at(1)).unwrap();
    writer.tick(at(2));
    // Room for a part of the next batch only.
    disk.capacity(Some(disk.used() + 900));
    let fault = writer.append(&[body("b"), body("c")], at(3)).unwrap_err();
    assert!(matches!(fault, JournalFault::Failing { .. }), "{fault}");
    assert!(matches!(writer.health(), Health::Failing { .. }));
    assert!(matches!(writer.append(&[body("d")], at(3)), Err(JournalFault::Failing { .. })));
    writer.tick(at(5));
    assert!(matches!(writer.health(), Health::Failing { .. }), "there is still no room");
    disk.capacity(None);
    writer.tick(at(7));
    assert_eq!(*writer.health(), Health::Ok);
    writer.append(&[body("e")], at(8)).unwrap();
    writer.close(at(9)).unwrap();
    assert_eq!(recorded(&disk), ["a", "e"]);
    assert_eq!(verify(&disk).unwrap().unsigned, 0);
}

#[test]
fn low_space_stops_writes_before_reads() {
    let disk = SimDisk::default();
    let mut writer = Writer::open(disk.clone(), Plan { low_water_bytes: 1000, ..plan() }, at(0)).unwrap().0;
    disk.free(Some(999));
    writer.tick(at(2));
    assert_eq!(*writer.health(), Health::ReadsOnly { free_bytes: 999, low_water_bytes: 1000 });
    writer.append(&[body("read")], at(3)).unwrap();
    disk.free(Some(1000));
    writer.tick(at(4));
    assert_eq!(*writer.health(), Health::Ok);
}

#[test]
fn checkpoints_come_every_second_when_there_is_something_new_and_heartbeats_when_there_is_not() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    let notes = |disk: &SimDisk| split_notes(&String::from_utf8(disk.content("checkpoints")).unwrap()).0.len();
    assert_eq!(notes(&disk), 1);
    writer.tick(at(30));
    assert_eq!(notes(&disk), 1, "nothing new");
    writer.append(&[body("a")], at(30)).unwrap();
    writer.tick(at(30));
    assert_eq!(notes(&disk), 1, "not yet");
    writer.tick(at(31));
    assert_eq!(notes(&disk), 2);
    let size = writer.size();
    writer.tick(at(89));
    assert_eq!(writer.size(), size);
    writer.tick(at(90));
    assert_eq!(writer.size(), size + 1, "a heartbeat after a minute of silence");
}

#[test]
fn a_segment_is_closed_when_it_is_large_or_old_with_a_checkpoint() {
    let disk = SimDisk::default();
    let mut writer = Writer::open(disk.clone(), Plan { segment_bytes: 3_000, ..plan() }, at(0)).unwrap().0;
    for n in 0..10 {
        writer.append(&[body(&n.to_string())], at(0)).unwrap();
    }
    assert!(segments(&disk).len() >= 4, "{:?}", segments(&disk));
    let before = segments(&disk).len();
    writer.append(&[body("later")], at(3600)).unwrap();
    assert_eq!(segments(&disk).len(), before + 1);
    writer.close(at(3601)).unwrap();
    assert_eq!(verify(&disk).unwrap().unsigned, 0);
}

#[test]
fn a_checkpoint_that_cannot_be_written_fails_the_journal_and_is_made_up_for() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    writer.append(&[body("a")], at(1)).unwrap();
    disk.fail(Op::Sync, 0, 2);
    writer.tick(at(3));
    assert!(matches!(writer.health(), Health::Failing { .. }));
    disk.mend();
    writer.tick(at(5));
    writer.tick(at(6));
    assert_eq!(*writer.health(), Health::Ok);
    let crashed = disk.crash(|_| 0);
    assert_eq!(verify(&crashed).unwrap().unsigned, 0);
    assert_eq!(recorded(&crashed), ["a"]);
}

#[test]
fn a_torn_note_is_cut_off_and_the_next_one_is_whole() {
    let disk = SimDisk::default();
    open(&disk).close(at(1)).unwrap();
    let notes = disk.content("checkpoints");
    for cut in 0..notes.len() {
        let crashed = disk.copy();
        crashed.put("checkpoints", &notes[..cut]);
        let mut writer = open(&crashed);
        writer.append(&[body("a")], at(1)).unwrap();
        writer.close(at(2)).unwrap();
        assert_eq!(verify(&crashed).unwrap().unsigned, 0, "cut at {cut}");
    }
}

#[test]
fn an_epoch_is_never_used_twice_even_if_all_its_records_are_lost() {
    let disk = SimDisk::default();
    drop(open(&disk));
    disk.put("1-0.jsonl", b"nothing that is a record");
    let (_, found) = Writer::open(disk.clone(), plan(), at(1)).unwrap();
    assert_eq!((found.epoch_max, found.promised_missing), (1, 1));
    assert_eq!(segments(&disk), [SegmentName { epoch: 2, first: 0 }]);
    assert_eq!(verify(&disk).unwrap_err().kind, Kind::Missing);
    disk.remove("2-0.jsonl");
    disk.remove("1-0.jsonl.torn");
    // The checkpoints alone still say which epochs there were.
    assert_eq!(Writer::open(disk.clone(), plan(), at(1)).unwrap().1.epoch_max, 2);
}

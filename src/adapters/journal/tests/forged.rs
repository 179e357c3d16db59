//! Somebody who can write to the directory and has no key adds records while the gateway is down.

use super::*;

/// A gateway of the forger's own: the same lines, signed with a key that nobody trusts.
fn forger(disk: &SimDisk) -> Writer<SimDisk> {
    Writer::open(disk.clone(), Plan { signer: signer(2), ..plan() }, at(0)).unwrap().0
}

/// The first epoch as it was, and `forged` chained behind it.
fn with_forged(honest: &[&str], forged: &[Record]) -> Vec<u8> {
    let disk = SimDisk::default();
    let mut writer = forger(&disk);
    let bodies: Vec<Body> = honest.iter().map(|name| body(name)).chain(forged.iter().map(Record::body)).collect();
    writer.append(&bodies, at(1)).unwrap();
    disk.content("1-0.jsonl")
}

fn at_ms(name: &str, received_ms: i64) -> Record {
    let opened =
        Opened { request_id: name.to_owned(), received_ms, method: "tools/call".to_owned(), ..Opened::default() };
    Record::open(opened)
}

fn boot_and_close(disk: &SimDisk) {
    let mut writer = open(disk);
    writer.append(&[body("later")], at(100)).unwrap();
    writer.close(at(101)).unwrap();
}

#[test]
fn a_record_added_behind_a_clean_stop_is_altered_before_and_after_the_next_start() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    writer.append(&[body("a")], at(1)).unwrap();
    writer.close(at(2)).unwrap();
    drop(writer);
    let honest = disk.content("1-0.jsonl");
    let forged = with_forged(&["a"], &[request("forged")]);
    assert!(forged.starts_with(&honest) && forged.len() > honest.len());
    disk.put("1-0.jsonl", &forged);
    for story in ["before the next start", "after it", "after one more"] {
        let finding = verify(&disk).expect_err(story);
        assert_eq!((finding.kind, finding.epoch, finding.seq), (Kind::Altered, 1, Some(2)), "{story}: {finding:?}");
        assert_eq!((finding.line, finding.request_id.as_deref()), (Some(3), Some("forged")), "{story}");
        boot_and_close(&disk);
    }
}

#[test]
fn a_segment_or_part_of_a_line_added_behind_a_clean_stop_is_altered() {
    let disk = SimDisk::default();
    open(&disk).close(at(2)).unwrap();
    let honest = disk.content("1-0.jsonl");
    let torn = disk.copy();
    torn.put("1-0.jsonl", &[&honest, b"{\"half".as_slice()].concat());
    assert_eq!(verify(&torn).unwrap_err().kind, Kind::Altered);
    let forged = with_forged(&[], &[request("forged")]);
    disk.put("1-1.jsonl", &forged[honest.len()..]);
    let finding = verify(&disk).unwrap_err();
    assert_eq!((finding.kind, finding.segment.as_deref()), (Kind::Altered, Some("1-1.jsonl")), "{finding:?}");
    boot_and_close(&disk);
    assert_eq!(verify(&disk).unwrap_err().kind, Kind::Altered);
}

#[test]
fn records_added_behind_a_crash_over_more_than_the_limit_stay_unsigned_whatever_is_signed_later() {
    let disk = SimDisk::default();
    open(&disk).append(&[body("a")], at(1)).unwrap();
    disk.put("1-0.jsonl", &with_forged(&["a"], &[at_ms("forged", 1_000), at_ms("forged too", 9_000)]));
    for story in ["before the next start", "after it", "after one more"] {
        let finding = verify(&disk).expect_err(story);
        assert_eq!((finding.kind, finding.epoch), (Kind::Unsigned, 1), "{story}: {finding:?}");
        assert!(finding.what.contains("3 records at the end of epoch 1 were never signed by it"), "{finding:?}");
        boot_and_close(&disk);
    }
}

#[test]
fn what_a_crash_left_unsigned_is_fine_within_the_limit_and_stays_counted() {
    let disk = SimDisk::default();
    open(&disk).append(&[at_ms("a", 1_000), at_ms("b", 1_900)].map(|record| record.body()), at(1)).unwrap();
    let summary = verify(&disk).unwrap();
    assert_eq!((summary.unsigned, summary.unsigned_before), (2, 0));
    boot_and_close(&disk);
    let summary = verify(&disk).unwrap();
    assert_eq!((summary.unsigned, summary.unsigned_before), (0, 2));
}

#[test]
fn an_epoch_that_no_gateway_signed_is_found_once_it_says_more_than_that_it_began() {
    let disk = SimDisk::default();
    open(&disk).close(at(2)).unwrap();
    let forged = disk.copy();
    forger(&forged).append(&[request("forged").body()], at(3)).unwrap();
    disk.put("2-0.jsonl", &forged.content("2-0.jsonl"));
    for story in ["before the next start", "after it"] {
        let finding = verify(&disk).expect_err(story);
        assert_eq!((finding.kind, finding.epoch), (Kind::Unsigned, 2), "{story}: {finding:?}");
        boot_and_close(&disk);
    }
}

#[test]
fn nothing_is_written_behind_the_note_that_closes_an_epoch() {
    let disk = SimDisk::default();
    let mut writer = open(&disk);
    writer.close(at(1)).unwrap();
    assert_eq!(writer.append(&[body("late")], at(2)), Err(JournalFault::Closed));
    writer.tick(at(1_000));
    assert_eq!(writer.size(), 1, "no heartbeat either");
    assert_eq!(verify(&disk).unwrap().records, 1);
}

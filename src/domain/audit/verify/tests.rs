//! Everything that can be done to files without the key, and what the verifier says of it.

use super::*;
use crate::domain::audit::chain::{Chain, Previous, fingerprint_member, fingerprint_of};
use crate::domain::audit::checkpoint::tests::signer;
use crate::domain::audit::record::{Opened, Record};

const UNSIGNED_MS_MAX: i64 = 5_000;

/// Two epochs: 1 in segments `1-0` (records 0 to 2) and `1-3` (3 and 4), 2 in `2-0` (0 to 2); all signed.
#[derive(Clone)]
struct Files {
    segments: Vec<(SegmentName, Vec<Vec<u8>>)>,
    checkpoints: Vec<Checkpoint>,
}

fn request(n: i64) -> Record {
    let opened =
        Opened { request_id: format!("req-{n}"), received_ms: n, method: "tools/call".to_owned(), ..Opened::default() };
    Record::open(opened)
}

fn start(prev_epoch: u64, prev_size: u64, prev_head: Hash) -> Record {
    Record::recovered(
        1,
        &Recovered::Start { prev_epoch, prev_size, prev_head: prev_head.to_string(), bytes_dropped: 0 },
    )
}

fn write(chain: &mut Chain, records: &[Record]) -> Vec<Vec<u8>> {
    records
        .iter()
        .map(|record| {
            let mut line = Vec::new();
            chain.push(&record.body(), &mut line);
            line.pop();
            line
        })
        .collect()
}

fn checkpoint(chain: &Chain) -> Checkpoint {
    let checkpoint = Checkpoint { origin: chain.origin(), size: chain.size(), root: chain.root(), closed: false };
    let note = checkpoint.to_note(&signer(1));
    Checkpoint::verify(&note, &[signer(1).public()]).unwrap()
}

impl Files {
    fn new() -> Self {
        let name = |epoch, first| SegmentName { epoch, first };
        let mut chain = Chain::begin("demo", "w", 1, None);
        let first = write(&mut chain, &[start(0, 0, Hash::ZERO), request(1), request(2)]);
        let mut checkpoints = vec![checkpoint(&chain)];
        let second = write(&mut chain, &[request(3), request(4)]);
        checkpoints.push(checkpoint(&chain));
        let last = Line::read(second.last().unwrap()).unwrap();
        let mut chain = Chain::begin("demo", "w", 2, Some(Previous::of(&last)));
        let third = write(&mut chain, &[start(1, 5, last.leaf), request(6), request(7)]);
        checkpoints.push(checkpoint(&chain));
        Self { segments: vec![(name(1, 0), first), (name(1, 3), second), (name(2, 0), third)], checkpoints }
    }

    fn raw(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let bytes = |lines: &Vec<Vec<u8>>| lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
        self.segments.iter().map(|(name, lines)| (*name, bytes(lines))).collect()
    }

    fn verify(&self) -> Result<Summary, Box<Finding>> {
        verify_raw(&self.raw(), &self.checkpoints)
    }

    /// The segment and line of the `n`th record of all.
    fn place(&self, n: usize) -> (usize, usize) {
        let mut left = n;
        for (segment, (_, lines)) in self.segments.iter().enumerate() {
            if left < lines.len() {
                return (segment, left);
            }
            left -= lines.len();
        }
        panic!("there is no record {n}")
    }

    fn count(&self) -> usize {
        self.segments.iter().map(|(_, lines)| lines.len()).sum()
    }
}

fn verify_raw(segments: &[(SegmentName, Vec<u8>)], checkpoints: &[Checkpoint]) -> Result<Summary, Box<Finding>> {
    let mut verifier = Verifier::new("w", checkpoints)?;
    for (index, (name, bytes)) in segments.iter().enumerate() {
        let next = segments.get(index + 1).filter(|(next, _)| next.epoch == name.epoch).map(|(next, _)| next.first);
        verifier.begin(*name, next)?;
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) => verifier.line(line)?,
                None => verifier.torn(piece)?,
            }
        }
    }
    verifier.finish(UNSIGNED_MS_MAX)
}

/// What somebody without the key can do to a line: change it and make it fit itself again.
fn forge(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    assert!(text.contains(from));
    let text = text.replace(from, to);
    let cut = text.len() - fingerprint_member(Hash::ZERO).len() - 3;
    let before = &text.as_bytes()[..cut];
    [before, fingerprint_member(fingerprint_of(before)).as_bytes(), b"}]}"].concat()
}

fn seq_of(line: &[u8]) -> u64 {
    Line::read(line).unwrap().seq
}

#[test]
fn what_was_written_verifies() {
    let summary = Files::new().verify().unwrap();
    assert_eq!(
        summary,
        Summary { records: 8, unsigned: 0, unsigned_before: 0, epochs: 2, checkpoints: 3, torn_bytes: 0 }
    );
}

#[test]
fn one_byte_changed_anywhere_names_the_record() {
    let files = Files::new();
    let raw = files.raw();
    for (index, (name, bytes)) in raw.iter().enumerate() {
        let mut line = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let mut changed = raw.clone();
            changed[index].1[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
            let finding =
                verify_raw(&changed, &files.checkpoints).expect_err(&format!("byte {at} of {name} was changed"));
            assert!(matches!(finding.kind, Kind::Altered | Kind::Missing), "{finding:?}");
            assert_eq!(finding.seq, Some(name.first + line), "byte {at} of {name}: {finding:?}");
            assert_eq!(finding.epoch, name.epoch, "byte {at} of {name}: {finding:?}");
            if *byte == b'\n' {
                line += 1;
            } else {
                assert_eq!(finding.kind, Kind::Altered, "byte {at} of {name}: {finding:?}");
                assert_eq!(finding.segment, Some(name.to_string()));
                assert_eq!(finding.line, Some(line + 1), "byte {at} of {name}");
            }
        }
    }
}

#[test]
fn a_newline_put_into_a_record_names_it() {
    let mut files = Files::new();
    files.segments[0].1[1][40] = b'\n';
    let finding = files.verify().unwrap_err();
    assert_eq!((finding.kind, finding.seq), (Kind::Altered, Some(1)));
}

#[test]
fn a_record_that_was_rewritten_to_fit_itself_is_named_with_its_request() {
    let files = Files::new();
    for n in 0..files.count() {
        let (segment, line) = files.place(n);
        let mut forged = files.clone();
        let bytes = &mut forged.segments[segment].1[line];
        *bytes = forge(bytes, "\"severity_id\"", "\"severity_iD\"");
        let expected = seq_of(bytes);
        let request = request_id_of(bytes);
        let finding = forged.verify().expect_err("a forged record");
        assert_eq!((finding.kind, finding.seq), (Kind::Altered, Some(expected)), "{finding:?}");
        assert_eq!(finding.epoch, files.segments[segment].0.epoch);
        assert_eq!(finding.request_id, request, "{finding:?}");
    }
}

#[test]
fn a_whole_history_rewritten_without_the_key_is_altered() {
    let files = Files::new();
    let mut chain = Chain::begin("demo", "w", 1, None);
    let mut forged = files.clone();
    forged.segments[0].1 = write(&mut chain, &[start(0, 0, Hash::ZERO), request(1), request(99)]);
    forged.segments[1].1 = write(&mut chain, &[request(3), request(4)]);
    let finding = forged.verify().unwrap_err();
    assert_eq!(finding.kind, Kind::Altered);
    assert!(finding.what.contains("checkpoint"), "{finding:?}");
}

#[test]
fn a_deleted_record_is_missing_and_named() {
    let files = Files::new();
    for n in 0..files.count() {
        let (segment, line) = files.place(n);
        let mut cut = files.clone();
        let gone = cut.segments[segment].1.remove(line);
        let finding = cut.verify().expect_err("a record was deleted");
        assert_eq!((finding.kind, finding.seq), (Kind::Missing, Some(seq_of(&gone))), "{finding:?}");
        assert_eq!(finding.epoch, files.segments[segment].0.epoch);
    }
}

#[test]
fn a_repeated_record_is_altered_and_named() {
    let files = Files::new();
    for n in 0..files.count() {
        let (segment, line) = files.place(n);
        let mut doubled = files.clone();
        let again = doubled.segments[segment].1[line].clone();
        doubled.segments[segment].1.insert(line + 1, again.clone());
        let finding = doubled.verify().expect_err("a record stands twice");
        assert_eq!(finding.kind, Kind::Altered, "{finding:?}");
        // Behind the end of a closed segment it is where the next record should be.
        let expected = seq_of(&again);
        assert!(finding.seq == Some(expected) || finding.seq == Some(expected + 1), "{finding:?}");
        assert_eq!(finding.line, Some(line as u64 + 2));
    }
}

#[test]
fn two_records_changing_places_are_altered_not_missing() {
    let files = Files::new();
    for (segment, (_, lines)) in files.segments.iter().enumerate() {
        for (line, bytes) in lines.iter().enumerate().take(lines.len() - 1) {
            let mut swapped = files.clone();
            swapped.segments[segment].1.swap(line, line + 1);
            let finding = swapped.verify().expect_err("two records were swapped");
            assert_eq!(finding.kind, Kind::Altered, "{finding:?}");
            assert_eq!(finding.seq, Some(seq_of(bytes)), "{finding:?}");
        }
    }
}

#[test]
fn an_inserted_record_is_altered() {
    let files = Files::new();
    for n in 0..files.count() {
        let (segment, line) = files.place(n);
        let mut stuffed = files.clone();
        let forged = forge(&stuffed.segments[segment].1[line], "\"time\":", "\"time\":9");
        stuffed.segments[segment].1.insert(line, forged);
        let finding = stuffed.verify().expect_err("a record was inserted");
        assert_eq!(finding.kind, Kind::Altered, "{finding:?}");
        assert_eq!(finding.epoch, files.segments[segment].0.epoch, "{finding:?}");
    }
}

#[test]
fn a_tail_cut_off_behind_a_checkpoint_is_missing() {
    let files = Files::new();
    for keep in 0..3 {
        let mut cut = files.clone();
        cut.segments[2].1.truncate(keep);
        let finding = cut.verify().unwrap_err();
        assert_eq!((finding.kind, finding.epoch), (Kind::Missing, 2), "{finding:?}");
        if keep > 0 {
            assert_eq!(finding.seq, Some(keep as u64));
        }
    }
}

#[test]
fn a_segment_or_an_epoch_that_is_gone_is_missing() {
    let files = Files::new();
    for index in 0..3 {
        let mut cut = files.clone();
        cut.segments.remove(index);
        let finding = cut.verify().unwrap_err();
        assert_eq!(finding.kind, Kind::Missing, "segment {index}: {finding:?}");
        assert_eq!(finding.epoch, files.segments[index].0.epoch, "{finding:?}");
    }
    let mut cut = files;
    cut.segments.drain(..2);
    assert_eq!(cut.verify().unwrap_err().kind, Kind::Missing);
}

#[test]
fn the_end_of_an_epoch_cut_off_with_its_checkpoints_is_missing_all_the_same() {
    let mut files = Files::new();
    files.segments[1].1.pop();
    files.checkpoints.retain(|checkpoint| checkpoint.size != 5);
    let finding = files.verify().unwrap_err();
    assert_eq!((finding.kind, finding.epoch, finding.seq), (Kind::Missing, 1, Some(4)));
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_an_end_that_was_cut_off() {
    let mut files = Files::new();
    let kept = files.checkpoints.pop().unwrap();
    files.segments[2].1.pop();
    files.segments[2].1.pop();
    files.checkpoints.push(kept);
    assert_eq!(files.verify().unwrap_err().kind, Kind::Missing);
}

#[test]
fn records_without_any_checkpoint_are_unsigned() {
    let mut files = Files::new();
    files.checkpoints.clear();
    assert_eq!(files.verify().unwrap_err().kind, Kind::Unsigned);
}

#[test]
fn an_unsigned_end_of_any_epoch_is_fine_up_to_the_limit_and_no_later_epoch_signs_for_it() {
    let mut files = Files::new();
    files.checkpoints.remove(1);
    // Records 3 and 4 of epoch 1, at times 3 and 4.
    let summary = files.verify().unwrap();
    assert_eq!((summary.unsigned, summary.unsigned_before), (0, 2));
    let mut chain = Chain::begin("demo", "w", 1, None);
    let records =
        [start(0, 0, Hash::ZERO), request(1), request(2), request(3), request(3 + UNSIGNED_MS_MAX), request(9_999)];
    let mut lines = write(&mut chain, &records);
    for (count, kind) in [(5, None), (6, Some(Kind::Unsigned))] {
        let mut longer = files.clone();
        longer.segments[1].1 = lines[3..count].to_vec();
        let last = Line::read(&lines[count - 1]).unwrap();
        let mut chain = Chain::begin("demo", "w", 2, Some(Previous::of(&last)));
        longer.segments[2].1 = write(&mut chain, &[start(1, count as u64, last.leaf), request(6)]);
        longer.checkpoints[1] = checkpoint(&chain);
        let finding = longer.verify().err();
        assert_eq!(finding.as_ref().map(|finding| finding.kind), kind, "{finding:?}");
        assert_eq!(finding.map_or(1, |finding| finding.epoch), 1);
    }
    // The last epoch of all is judged alike.
    let cut = [(files.segments[0].0, files.segments[0].1.clone()), (files.segments[1].0, lines.split_off(3))];
    let only = Files { segments: cut.to_vec(), checkpoints: files.checkpoints[..1].to_vec() };
    assert_eq!(only.verify().unwrap_err().kind, Kind::Unsigned);
}

#[test]
fn an_epoch_without_any_checkpoint_has_no_more_than_the_record_it_begins_with() {
    let mut files = Files::new();
    files.checkpoints.pop();
    let finding = files.verify().unwrap_err();
    assert_eq!((finding.kind, finding.epoch), (Kind::Unsigned, 2), "{finding:?}");
    files.segments[2].1.truncate(1);
    assert_eq!(files.verify().unwrap().unsigned, 1);
}

#[test]
fn a_closed_epoch_has_nothing_behind_its_end() {
    let mut files = Files::new();
    for closed in [1, 2] {
        files.checkpoints[closed].closed = true;
    }
    files.verify().unwrap();
    files.checkpoints[1].closed = false;
    files.checkpoints[0].closed = true;
    let finding = files.verify().unwrap_err();
    assert_eq!((finding.kind, finding.epoch, finding.seq), (Kind::Altered, 1, Some(3)), "{finding:?}");
    // With the record between cut out it is still something behind the end, not something missing.
    files.segments[1].1.remove(0);
    assert_eq!(files.verify().unwrap_err().kind, Kind::Altered);
}

#[test]
fn bytes_after_the_last_newline_are_reported_and_no_fault() {
    let files = Files::new();
    let mut raw = files.raw();
    raw[2].1.extend_from_slice(b"{\"half");
    assert_eq!(verify_raw(&raw, &files.checkpoints).unwrap().torn_bytes, 6);
    // In the middle they are one: nothing is written behind an unfinished line.
    let whole = raw[2].1.len() - 6;
    raw[2].1.truncate(whole);
    raw[1].1.extend_from_slice(b"{\"half");
    assert!(verify_raw(&raw, &files.checkpoints).is_err());
}

#[test]
fn a_segment_under_another_name_is_altered() {
    let mut files = Files::new();
    files.segments[1].0.first = 2;
    assert_eq!(files.verify().unwrap_err().kind, Kind::Altered);
    let mut files = Files::new();
    files.segments[2].0.epoch = 3;
    assert_eq!(files.verify().unwrap_err().kind, Kind::Altered);
}

#[test]
fn two_signed_histories_of_one_epoch_are_altered() {
    let mut files = Files::new();
    let mut other = files.checkpoints[0].clone();
    other.root = Hash::of(b"another history");
    files.checkpoints.push(other);
    assert_eq!(files.verify().unwrap_err().kind, Kind::Altered);
}

#[test]
fn another_writers_records_do_not_pass_for_this_ones() {
    let mut files = Files::new();
    let mut chain = Chain::begin("demo", "v", 1, None);
    files.segments[0].1 = write(&mut chain, &[start(0, 0, Hash::ZERO)]);
    assert_eq!(files.verify().unwrap_err().kind, Kind::Altered);
}

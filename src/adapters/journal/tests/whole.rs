//! The whole journal: its thread, its queue, and the real disk.

use std::io::Read;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::adapters::journal::disk::Sink;

fn clock() -> WallClock {
    let ticks = AtomicI64::new(1_000);
    Arc::new(move || ticks.fetch_add(1, Ordering::Relaxed))
}

fn settings(dir: &std::path::Path) -> Settings {
    let (pem, _) = generate_signing_key().unwrap();
    let mut settings = Settings::new(dir.to_owned(), "w".to_owned(), "demo".to_owned(), SigningKey::Pem(pem));
    settings.deadline = Duration::from_mins(5);
    settings.low_water_bytes = 0;
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_record_of_64_callers_is_on_disk_once_and_where_it_was_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.segment_bytes = 100_000;
    let journal = Arc::new(Journal::open(settings, clock()).unwrap());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64 {
        let journal = Arc::clone(&journal);
        callers.spawn(async move {
            let mut refs = Vec::new();
            for n in 0..10 {
                let id = format!("{caller}-{n}");
                refs.push((journal.append(request(&id)).await.unwrap(), id));
            }
            refs
        });
    }
    let mut acknowledged: Vec<(AuditRef, String)> = callers.join_all().await.into_iter().flatten().collect();
    let key = *journal.public_key();
    assert!(journal.stats().batches < 640, "appends share syncs: {:?}", journal.stats());
    assert_eq!((journal.stats().appended, journal.stats().waiting), (640, 0));
    journal.close().unwrap();
    assert_eq!(journal.append(request("late")).await, Err(JournalFault::Closed));
    assert_eq!(journal.ready(false), Err(JournalFault::Closed));

    let series = read::series(dir.path()).unwrap();
    let mut found = Vec::new();
    for segment in &series[0].segments {
        read::lines(&series[0], *segment, |piece| {
            let read::Piece::Line(bytes) = piece else { panic!("torn after a clean close") };
            let line = Line::read(bytes).unwrap();
            found.extend(line.request_id.as_ref().map(|id| (line.at(), id.clone().into_owned())));
            Ok::<(), ()>(())
        })
        .unwrap()
        .unwrap();
    }
    assert!(series[0].segments.len() > 1);
    acknowledged.sort();
    assert_eq!(found, acknowledged);
    let last = series[0].notes.last().unwrap();
    assert_eq!(Checkpoint::verify(last, &[key]).unwrap().size, 641);
    // Records of one caller stand in the order it made them.
    for caller in 0..64 {
        let own: Vec<&String> =
            found.iter().map(|(_, id)| id).filter(|id| id.starts_with(&format!("{caller}-"))).collect();
        assert_eq!(own, (0..10).map(|n| format!("{caller}-{n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
}

#[test]
fn two_processes_cannot_write_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(settings(dir.path()), clock()).unwrap();
    let second = Journal::open(settings(dir.path()), clock()).unwrap_err();
    assert!(second.to_string().contains("another process"), "{second}");
    journal.close().unwrap();
    drop(journal);
    let third = Journal::open(settings(dir.path()), clock()).unwrap();
    assert_eq!(third.opening().epoch, 2);
}

/// Nothing but its own files: a pipe would keep its reader waiting for ever, a link lead it elsewhere.
#[test]
fn a_pipe_or_a_link_named_like_a_file_of_the_journal_is_refused_and_neither_awaited_nor_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    for name in ["1-0.jsonl", "2-0.jsonl", "checkpoints", "lock"] {
        for kind in ["pipe", "link", "dangling link"] {
            std::fs::write(&target, "as it was").unwrap();
            let dir = tempfile::tempdir().unwrap();
            Journal::open(settings(dir.path()), clock()).unwrap().close().unwrap();
            let path = dir.path().join("w").join(name);
            if path.exists() {
                std::fs::remove_file(&path).unwrap();
            }
            match kind {
                "pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap(),
                "link" => std::os::unix::fs::symlink(&target, &path).unwrap(),
                _ => std::os::unix::fs::symlink(elsewhere.path().join("nothing"), &path).unwrap(),
            }
            let fault = Journal::open(settings(dir.path()), clock()).unwrap_err().to_string();
            assert!(fault.contains(&format!("`{name}` is no regular file")), "{kind} {name}: {fault}");
            if name != "lock" {
                let read = read::series(dir.path()).and_then(|series| {
                    let segments = series.iter().flat_map(|series| series.segments.iter().map(move |at| (series, at)));
                    let mut each = segments.map(|(series, at)| read::lines(series, *at, |_| Ok::<(), ()>(())));
                    each.find_map(Result::err).map_or(Ok(()), Err)
                });
                let error = read.expect_err(kind).to_string();
                assert!(error.contains(&format!("`{name}` is no regular file")), "{kind} {name}: {error}");
            }
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "as it was", "{kind} {name}");
            assert!(!elsewhere.path().join("nothing").exists(), "{kind} {name}");
        }
    }
}

#[test]
fn a_journal_says_what_keeps_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = settings(dir.path());
    bad.writer = "../elsewhere".to_owned();
    assert!(Journal::open(bad, clock()).unwrap_err().to_string().contains("`../elsewhere` cannot name a writer"));
    let mut bad = settings(dir.path());
    bad.signing_key = SigningKey::File(dir.path().join("no.key"));
    assert!(Journal::open(bad, clock()).unwrap_err().to_string().contains("no.key"));
    let mut bad = settings(dir.path());
    std::fs::write(dir.path().join("file"), "").unwrap();
    bad.dir = dir.path().join("file");
    assert!(Journal::open(bad, clock()).unwrap_err().to_string().contains("make the directory writable"));
}

/// Lets everyone pass or keeps everyone waiting.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    moved: std::sync::Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.moved.wait(closed).unwrap();
        }
    }

    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.moved.notify_all();
    }
}

/// A disk whose sync waits until the test lets it go on.
struct Stuck {
    disk: SimDisk,
    gate: Arc<Gate>,
}

struct StuckSink {
    sink: Box<dyn Sink>,
    gate: Arc<Gate>,
}

impl Sink for StuckSink {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sink.write_all(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.gate.pass();
        self.sink.sync()
    }
}

impl Disk for Stuck {
    fn names(&self) -> std::io::Result<Vec<String>> {
        self.disk.names()
    }

    fn read(&self, name: &str) -> std::io::Result<Box<dyn Read + Send>> {
        self.disk.read(name)
    }

    fn create(&self, name: &str) -> std::io::Result<Box<dyn Sink>> {
        Ok(Box::new(StuckSink { sink: self.disk.create(name)?, gate: Arc::clone(&self.gate) }))
    }

    fn append(&self, name: &str) -> std::io::Result<Box<dyn Sink>> {
        self.disk.append(name)
    }

    fn truncate(&self, name: &str, bytes: u64) -> std::io::Result<()> {
        self.disk.truncate(name, bytes)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_names(&self) -> std::io::Result<()> {
        self.disk.sync_names()
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[tokio::test]
async fn a_stuck_disk_costs_a_caller_its_deadline_and_a_full_queue_nothing() {
    let gate = Arc::new(Gate::default());
    let sim = SimDisk::default();
    let stuck = Stuck { disk: sim.clone(), gate: Arc::clone(&gate) };
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.queue = 2;
    settings.deadline = Duration::from_millis(1);
    let journal = Journal::open_on(stuck, settings, clock()).unwrap();
    gate.set(true);
    let mut faults = Vec::new();
    for n in 0..8 {
        faults.push(journal.append(request(&format!("stuck-{n}"))).await.unwrap_err());
    }
    assert_eq!(faults[0], JournalFault::Slow { deadline_ms: 1 });
    assert!(matches!(faults[7], JournalFault::Busy { .. }), "{faults:?}");
    assert!(journal.stats().busy > 0 && journal.stats().slow > 0, "{:?}", journal.stats());
    gate.set(false);
    journal.close().unwrap();
    // What was taken is written all the same: late is better than never.
    let recorded = recorded(&sim);
    assert_eq!(recorded.first().map(String::as_str), Some("stuck-0"));
    assert_eq!(recorded.len() as u64, journal.stats().slow);
}

#[tokio::test]
async fn ready_knows_of_a_failing_disk_before_the_caller_does() {
    let sim = SimDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_on(sim.clone(), settings(dir.path()), clock()).unwrap();
    assert_eq!((journal.ready(true), journal.ready(false)), (Ok(()), Ok(())));
    sim.fail(Op::Sync, 0, usize::MAX);
    let fault = journal.append(request("a")).await.unwrap_err();
    assert!(matches!(fault, JournalFault::Failing { .. }), "{fault}");
    assert_eq!(journal.ready(false), Err(fault));
    assert_eq!(journal.stats().failed, 1);
}

#[tokio::test]
async fn a_record_too_large_for_a_line_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_on(SimDisk::default(), settings(dir.path()), clock()).unwrap();
    let large = request("large").with("blob", "x".repeat(RECORD_BYTES_MAX));
    assert!(matches!(journal.append(large).await, Err(JournalFault::TooLarge { .. })));
    journal.append(request("small")).await.unwrap();
}

//! Finds records in journals: the latest that fit, and all that tell of one action.
//!
//! Promises: reads the newest segments first and stops when it has enough, or when it has read as
//! much as one question may cost, and then says where to go on; for one organisation, records of
//! any other are not looked at. Never writes, locks or judges. Called by `cli::audit`, and by `pep`
//! through [`Records`].

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::read;
use super::read::Piece;
use super::read::Series;
use crate::domain::audit::entry::Entry;
use crate::domain::audit::line::SegmentName;
use crate::domain::audit::story::Story;
use crate::domain::audit::story::order;
use crate::pep::ports::Mark;
use crate::pep::ports::RecordFilter;
use crate::pep::ports::RecordPage;
use crate::pep::ports::Records;
use crate::pep::ports::RecordsFault;

/// Questions answered at once; each reads files as fast as the disk gives them.
const AT_ONCE: usize = 2;
/// Bytes of segments that one question may cost.
const BYTES_MAX: u64 = 512 << 20;
/// Bytes of records that one answer holds; one record it holds in any case.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Records of one action that are told.
const STORY_MAX: usize = 2_000;

/// Gives every record under a directory that `want` lets through, writer by writer, in order.
pub fn each(
    dir: &Path,
    mut want: impl FnMut(&str) -> bool,
    mut take: impl FnMut(Entry),
) -> Result<(), (PathBuf, io::Error)> {
    let series = read::series(dir).map_err(|error| (dir.to_owned(), error))?;
    for writer in &series {
        for index in 0..writer.segments.len() {
            segment(writer, index, &mut want, &mut take).map_err(|error| (writer.dir.clone(), error))?;
        }
    }
    Ok(())
}

/// What the latest record tells that tells it; of one writer, whose directory this is.
pub fn last<T>(
    dir: &Path,
    mut want: impl FnMut(&str) -> bool,
    mut tell: impl FnMut(&Entry) -> Option<T>,
) -> Result<Option<T>, (PathBuf, io::Error)> {
    for writer in read::series(dir).map_err(|error| (dir.to_owned(), error))? {
        for index in (0..writer.segments.len()).rev() {
            let mut told = None;
            segment(&writer, index, &mut want, &mut |entry| told = tell(&entry).or_else(|| told.take()))
                .map_err(|error| (writer.dir.clone(), error))?;
            if told.is_some() {
                return Ok(told);
            }
        }
    }
    Ok(None)
}

/// Whether there is any journal under a directory.
pub fn exists(dir: &Path) -> io::Result<bool> {
    read::series(dir).map(|series| !series.is_empty())
}

/// Gives the records of one segment.
fn segment(
    writer: &Series,
    index: usize,
    want: &mut impl FnMut(&str) -> bool,
    take: &mut impl FnMut(Entry),
) -> io::Result<()> {
    let Some(segment) = writer.segments.get(index) else { return Ok(()) };
    let follows = |next: &&SegmentName| next.epoch == segment.epoch;
    let next = writer.segments.get(index + 1).filter(follows).map(|next| next.first);
    let read = read::lines(writer, *segment, |piece| {
        if let Piece::Line(line) = piece
            && let Ok(line) = std::str::from_utf8(line)
            && want(line)
            && let Some(entry) = Entry::read(line)
            // What the next segment starts over with does not count here.
            && next.is_none_or(|next| entry.seq().1 < next)
        {
            take(entry);
        }
        Ok::<(), std::convert::Infallible>(())
    })?;
    let Ok(()) = read;
    Ok(())
}

/// Every record of the action that goes by this id, in order; of one organisation, or of all.
pub fn story(dir: &Path, id: &str, tenant: Option<&str>) -> Result<Vec<Entry>, (PathBuf, io::Error)> {
    let mut story = Story::of(id);
    loop {
        // WHY: both closures look at the story, one after the other and never at once.
        let shared = std::cell::RefCell::new(&mut story);
        each(
            dir,
            |line| shared.borrow().may_hold(line),
            |entry| {
                if tenant.is_none_or(|tenant| entry.tenant() == tenant) {
                    shared.borrow_mut().look(entry);
                }
            },
        )?;
        if !story.again() {
            return Ok(story.told());
        }
    }
}

/// Looks records up for `pep`.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    turns: Arc<Semaphore>,
}

impl Reader {
    /// Reads the journals of every writer under this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Waits for a turn and reads beside the runtime.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, (PathBuf, io::Error)> + Send + 'static,
    ) -> Result<T, RecordsFault> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|closed| RecordsFault(closed.to_string()))?;
        let dir = self.dir.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = work(&dir);
            // WHY: a reader that nobody waits for any more still costs its turn.
            drop(turn);
            read
        });
        let read = reading.await.map_err(|cause| RecordsFault(cause.to_string()))?;
        read.map_err(|(path, error)| RecordsFault(format!("{}: {error}", path.display())))
    }
}

#[async_trait]
impl Records for Reader {
    async fn records(&self, filter: &RecordFilter) -> Result<RecordPage, RecordsFault> {
        let filter = filter.clone();
        self.read(move |dir| latest(dir, &filter, BYTES_MAX)).await
    }

    async fn story(&self, tenant: &str, id: &str) -> Result<RecordPage, RecordsFault> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        let mut told = self.read(move |dir| story(dir, &id, Some(&tenant))).await?;
        let mut bytes = 0_usize;
        let fits = |entry: &&Entry| {
            bytes = bytes.saturating_add(entry.line.len());
            bytes <= PAGE_BYTES_MAX
        };
        let kept = told.iter().take(STORY_MAX).take_while(fits).count().max(1).min(told.len());
        let next = told.get(kept).map(mark);
        told.truncate(kept);
        Ok(RecordPage { items: told.into_iter().map(|entry| entry.value).collect(), next })
    }
}

/// The latest records that fit, newest first.
fn latest(dir: &Path, filter: &RecordFilter, bytes_max: u64) -> Result<RecordPage, (PathBuf, io::Error)> {
    let mut found: Vec<Found> = Vec::new();
    let mut unread: Option<Mark> = None;
    let mut left = bytes_max;
    for writer in read::series(dir).map_err(|error| (dir.to_owned(), error))? {
        let read = latest_of(&writer, filter, &mut left, &mut found).map_err(|error| (writer.dir.clone(), error))?;
        unread = unread.max(read);
    }
    found.sort_by(|one, other| other.mark.cmp(&one.mark));
    found.retain(|one| unread.as_ref().is_none_or(|unread| one.mark >= *unread));
    let kept = within(found.iter(), filter.limit);
    let next = if kept < found.len() { kept.checked_sub(1).and_then(|last| found.get(last)) } else { None };
    let next = next.map(|last| last.mark.clone()).or(unread);
    let items = found.into_iter().take(kept).filter_map(|one| serde_json::from_str(&one.line).ok()).collect();
    Ok(RecordPage { items, next })
}

/// A record that fits, not yet taken apart: an answer is bounded in bytes, and lines are what they are.
struct Found {
    mark: Mark,
    line: String,
}

/// How many of these, newest first, make a page.
fn within<'f>(found: impl Iterator<Item = &'f Found>, limit: usize) -> usize {
    let mut bytes = 0_usize;
    let mut kept = 0;
    for one in found.take(limit) {
        bytes = bytes.saturating_add(one.line.len());
        if kept > 0 && bytes > PAGE_BYTES_MAX {
            break;
        }
        kept += 1;
    }
    kept
}

/// The same of one writer. Gives the place before which nothing was read, if something was left out.
fn latest_of(
    writer: &Series,
    filter: &RecordFilter,
    left: &mut u64,
    found: &mut Vec<Found>,
) -> io::Result<Option<Mark>> {
    let mut kept: Vec<Found> = Vec::new();
    let mut oldest: Option<Mark> = None;
    for index in (0..writer.segments.len()).rev() {
        let Some(first) = first_of(writer, index)? else { continue };
        let too_new = filter.before.as_ref().is_some_and(|before| first >= *before)
            || filter.until_ms.is_some_and(|until| first.time_ms >= until);
        if too_new {
            continue;
        }
        let too_old = filter.since_ms.is_some_and(|since| oldest.as_ref().is_some_and(|read| read.time_ms < since));
        // Newest first, so that what is read later is behind it.
        if too_old || within(kept.iter(), filter.limit) < kept.len() {
            break;
        }
        let bytes = writer
            .segments
            .get(index)
            .map_or(Ok(0), |segment| std::fs::metadata(writer.dir.join(segment.to_string())).map(|meta| meta.len()))?;
        // WHY: the newest is read whatever it costs, or no question would ever get on.
        if oldest.is_some() && bytes > *left {
            found.append(&mut kept);
            return Ok(oldest);
        }
        *left = left.saturating_sub(bytes);
        oldest = Some(first);
        kept.extend(fitting(writer, index, filter)?.into_iter().rev());
    }
    found.append(&mut kept);
    Ok(None)
}

/// The last records of a segment that fit, oldest first: a page of them and one more.
fn fitting(writer: &Series, index: usize, filter: &RecordFilter) -> io::Result<VecDeque<Found>> {
    let mut kept: VecDeque<Found> = VecDeque::new();
    let needle = serde_json::Value::from(filter.tenant.as_str()).to_string();
    segment(writer, index, &mut |line| line.contains(&needle), &mut |entry| {
        if fits(&entry, filter) {
            kept.push_back(Found { mark: mark(&entry), line: entry.line });
            // WHY: one more than a page, so that it is known whether there is a next one.
            while kept.len() > within(kept.iter().rev(), filter.limit).saturating_add(1) {
                kept.pop_front();
            }
        }
    })?;
    Ok(kept)
}

/// The place of a segment's first record; none when it has none.
fn first_of(writer: &Series, index: usize) -> io::Result<Option<Mark>> {
    let Some(segment) = writer.segments.get(index) else { return Ok(None) };
    let mut first = None;
    let _until_found = read::lines(writer, *segment, |piece| {
        first = match piece {
            Piece::Line(line) => std::str::from_utf8(line).ok().and_then(Entry::read).as_ref().map(mark),
            Piece::Torn(_) => None,
        };
        if first.is_some() { Err(()) } else { Ok(()) }
    })?;
    Ok(first)
}

fn mark(entry: &Entry) -> Mark {
    let (time_ms, writer, (epoch, seq)) = order(entry);
    Mark { time_ms, writer: writer.to_owned(), epoch, seq }
}

fn fits(entry: &Entry, filter: &RecordFilter) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    entry.tenant() == filter.tenant
        && is(&filter.user, entry.user())
        && is(&filter.tool, entry.tool())
        && filter.stage.as_deref().is_none_or(|stage| entry.is_at(stage))
        && filter.since_ms.is_none_or(|since| entry.time_ms() >= since)
        && filter.until_ms.is_none_or(|until| entry.time_ms() < until)
        && filter.before.as_ref().is_none_or(|before| mark(entry) < *before)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::adapters::journal::Journal;
    use crate::adapters::journal::Settings;
    use crate::adapters::journal::SigningKey;
    use crate::adapters::journal::generate_signing_key;
    use crate::domain::audit::record::Opened;
    use crate::domain::audit::record::Record;
    use crate::domain::audit::record::Stage;
    use crate::domain::identity::forge::principal;
    use crate::domain::identity::forge::tenant;

    fn record(n: i64, org: &str, approval: &str) -> Record {
        let opened = Opened { request_id: format!("req-{n}"), received_ms: n, ..Opened::default() };
        let mut record = Record::open(opened);
        record.caller(&principal("i", "ada", org), Some(&tenant(org)));
        record.approved_by(approval);
        record.stage(Stage::Outcome, n)
    }

    /// 40 records, every fourth of another organisation, in segments of a few each.
    fn journal() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = generate_signing_key().unwrap();
        let mut settings = Settings::new(dir.path().into(), "w".into(), "d".into(), SigningKey::Pem(key));
        settings.low_water_bytes = 0;
        settings.segment_bytes = 4096;
        let time = AtomicI64::new(500);
        let journal = Journal::open(settings, Arc::new(move || time.fetch_add(1, Ordering::Relaxed))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for n in 0..40 {
            let org = if n % 4 == 0 { "org_b" } else { "org_a" };
            let approval = format!("apr_{}", n % 3);
            runtime.block_on(journal.append(record(1_000 + n, org, &approval))).unwrap();
        }
        journal.close().unwrap();
        let segments = read::series(dir.path()).unwrap().remove(0).segments.len();
        assert!(segments > 3, "{segments} segments");
        dir
    }

    fn times(items: &[serde_json::Value]) -> Vec<i64> {
        items.iter().map(|item| item["time"].as_i64().unwrap() - 1_000).collect()
    }

    #[test]
    fn page_after_page_gives_every_record_of_the_organisation_once_newest_first_however_little_is_read_at_once() {
        let dir = journal();
        let expected: Vec<i64> = (0..40).rev().filter(|n| n % 4 != 0).collect();
        for (limit, bytes_max) in [(100, u64::MAX), (7, u64::MAX), (7, 1), (1, 1), (100, 1)] {
            let mut filter = RecordFilter { tenant: "org_a".to_owned(), limit, ..RecordFilter::default() };
            let mut seen = Vec::new();
            loop {
                let page = latest(dir.path(), &filter, bytes_max).unwrap();
                assert!(page.items.len() <= limit);
                seen.extend(times(&page.items));
                let Some(next) = page.next else { break };
                assert!(filter.before.as_ref().is_none_or(|before| next < *before), "it gets on");
                filter.before = Some(next);
            }
            assert_eq!(seen, expected, "{limit} {bytes_max}");
        }
    }

    #[test]
    fn the_latest_record_that_tells_something_tells_it_in_whatever_segment_it_stands() {
        let dir = journal();
        let told = |n: i64| {
            let tell = |entry: &Entry| Some(entry.time_ms() - 1_000).filter(|time| (0..=n).contains(time));
            last(&dir.path().join("w"), |_| true, tell).unwrap()
        };
        assert_eq!([told(100), told(38), told(7), told(0), told(-1_001)], [Some(39), Some(38), Some(7), Some(0), None]);
        assert!(last(&dir.path().join("nobody"), |_| true, |_| Some(())).is_err());
    }

    #[test]
    fn a_question_gets_what_fits_it_and_nothing_of_another_organisation() {
        let dir = journal();
        let ask = |change: fn(&mut RecordFilter)| {
            let mut filter = RecordFilter { tenant: "org_b".to_owned(), limit: 100, ..RecordFilter::default() };
            change(&mut filter);
            times(&latest(dir.path(), &filter, u64::MAX).unwrap().items)
        };
        assert_eq!(ask(|_| {}), [36, 32, 28, 24, 20, 16, 12, 8, 4, 0]);
        assert_eq!(ask(|filter| filter.since_ms = Some(1_028)), [36, 32, 28]);
        assert_eq!(ask(|filter| filter.until_ms = Some(1_008)), [4, 0]);
        assert_eq!(ask(|filter| filter.user = Some("ben".to_owned())), [] as [i64; 0]);
        assert_eq!(ask(|filter| filter.stage = Some("outcom".to_owned())), [] as [i64; 0]);
        assert_eq!(ask(|filter| filter.stage = Some("outcome".to_owned())).len(), 10);
        let told = story(dir.path(), "apr_1", Some("org_b")).unwrap();
        assert_eq!(told.iter().map(|entry| entry.time_ms() - 1_000).collect::<Vec<_>>(), [4, 16, 28]);
        assert_eq!(story(dir.path(), "apr_1", None).unwrap().len(), 13);
        assert_eq!(story(dir.path(), "req-1005", Some("org_b")).unwrap().len(), 0, "an id of another's is none");
    }
}

//! Whether files have changed, told by looking at them and not into them.
//!
//! Promises: an edit is seen whatever its editor does to sizes and times; what was refused for a
//! passing cause is due again, ever more rarely. Never reads a file. Called by `reload`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait before a load that was refused for a passing cause is tried again.
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(5);

/// Folders within folders that are looked at.
const DEPTH_MAX: usize = 8;

/// What a file looked like, cheaply: enough to know that it should be read again.
///
/// Whoever sets a file's modification time back still changes its inode or the time of its inode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    path: PathBuf,
    /// Device and inode, size, times of change of the text and of the inode; nothing if not there.
    about: Option<[i64; 7]>,
}

impl Look {
    fn of(path: &Path, meta: Option<&std::fs::Metadata>) -> Self {
        let about = meta.map(|meta| {
            let [device, inode, size] = [meta.dev(), meta.ino(), meta.len()].map(u64::cast_signed);
            [device, inode, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        });
        Self { path: path.to_owned(), about }
    }
}

/// What all files looked like.
pub(super) type Stamp = Vec<Look>;

/// What the sources looked like when they were last read, and what became of it.
#[derive(Debug)]
pub struct Seen {
    pub(super) stamp: Stamp,
    pub(super) again: Option<Again>,
}

/// When to try once more: looks to wait, doubled each time.
#[derive(Debug)]
pub(super) struct Again {
    step: u32,
    left: u32,
}

impl Again {
    /// After a refusal: another try for a passing cause, and none for faults of the files.
    pub(super) fn after(passing: bool, before: Option<&Self>, every: Duration) -> Option<Self> {
        let most = AGAIN_AFTER_MAX.div_duration_f64(every.max(Duration::from_millis(1)));
        let step = before.map_or(1, |again| again.step.saturating_mul(2));
        passing.then(|| {
            let step = if f64::from(step) > most { before.map_or(1, |again| again.step) } else { step };
            Self { step, left: step }
        })
    }

    /// Counts one look; whether this is the one.
    pub(super) fn due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}

/// Looks at files, and at everything in folders.
pub(super) fn stamp<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Stamp {
    fn walk(path: &Path, depth: usize, out: &mut Stamp) {
        // WHY: metadata follows links, since Kubernetes swaps a link when a ConfigMap changes.
        let Ok(meta) = std::fs::metadata(path) else { return out.push(Look::of(path, None)) };
        if !meta.is_dir() {
            out.push(Look::of(path, Some(&meta)));
        } else if depth > 0 {
            let Ok(entries) = std::fs::read_dir(path) else { return };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in &paths {
                walk(path, depth - 1, out);
            }
        }
    }
    let mut out = Stamp::new();
    for path in paths {
        walk(path, DEPTH_MAX, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use super::*;

    /// An edit of the same length whose time was set back used to go unseen for ever.
    #[test]
    fn an_edit_of_the_same_size_and_time_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tenants.yaml");
        fs::write(&file, "a: true ").unwrap();
        let (before, modified) = (stamp([dir.path()]), fs::metadata(&file).unwrap().modified().unwrap());
        assert_eq!(before, stamp([dir.path()]));
        let new = dir.path().join(".new");
        fs::write(&new, "a: false").unwrap();
        File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_ne!(before, stamp([dir.path()]));
    }

    #[test]
    fn only_a_passing_cause_is_tried_again_and_ever_more_rarely() {
        let every = Duration::from_mins(1);
        let mut again = None;
        let mut steps = Vec::new();
        for _ in 0..5 {
            again = Again::after(true, again.as_ref(), every);
            steps.extend(again.as_ref().map(|again| again.step));
        }
        assert_eq!(steps, [1, 2, 4, 4, 4]);
        assert!(Again::after(false, again.as_ref(), every).is_none());
    }
}

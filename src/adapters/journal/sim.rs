//! A disk for tests: it runs full, tears writes, fails to sync, lies after a failed sync, and crashes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, Sink};

#[derive(Debug, Clone, Default)]
struct Content {
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// What readers see now.
    seen: Vec<u8>,
    /// Whether the name itself has been made durable.
    named: bool,
}

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Write,
    Sync,
    Create,
    Truncate,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<String, Content>,
    faults: Vec<(Op, usize, usize)>,
    capacity: Option<u64>,
    free: Option<u64>,
}

impl State {
    fn used(&self) -> u64 {
        self.files.values().map(|content| content.seen.len() as u64).sum()
    }

    /// Whether this operation is to fail now.
    fn fails(&mut self, op: Op) -> bool {
        for (wanted, skip, times) in &mut self.faults {
            if *wanted == op && *times > 0 {
                if *skip > 0 {
                    *skip -= 1;
                } else {
                    *times -= 1;
                    return true;
                }
            }
        }
        false
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// After `skip` operations of the kind, the next `times` fail.
    pub(super) fn fail(&self, op: Op, skip: usize, times: usize) {
        self.state().faults.push((op, skip, times));
    }

    pub(super) fn mend(&self) {
        self.state().faults.clear();
    }

    pub(super) fn capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    pub(super) fn free(&self, bytes: Option<u64>) {
        self.state().free = bytes;
    }

    pub(super) fn used(&self) -> u64 {
        self.state().used()
    }

    /// What is there after the power goes: everything synced, and as much of the rest as `keep` says.
    pub(super) fn crash(&self, keep: impl Fn(usize) -> usize) -> Self {
        let mut files = BTreeMap::new();
        for (name, content) in &self.state().files {
            let pending = content.seen.len().saturating_sub(content.durable.len());
            let kept = keep(pending).min(pending);
            if !content.named && kept == 0 && content.durable.is_empty() {
                continue;
            }
            let left = content.seen[..(content.durable.len() + kept).min(content.seen.len())].to_vec();
            files.insert(name.clone(), Content { durable: left.clone(), seen: left, named: true });
        }
        Self(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        self.state().files.get(name).map(|content| content.seen.clone()).unwrap_or_default()
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let content = Content { durable: bytes.to_vec(), seen: bytes.to_vec(), named: true };
        self.state().files.insert(name.to_owned(), content);
    }

    pub(super) fn remove(&self, name: &str) {
        self.state().files.remove(name);
    }

    /// A copy that shares nothing.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }
}

struct SimSink {
    disk: SimDisk,
    name: String,
    /// After a failed sync the system has forgotten which bytes are not on disk.
    forgot: bool,
}

fn eio(what: &str) -> io::Error {
    io::Error::other(format!("input/output error in {what}"))
}

impl Sink for SimSink {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let torn = state.fails(Op::Write);
        let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let take = if torn { fits / 2 } else { fits };
        let Some(content) = state.files.get_mut(&self.name) else { return Err(eio("write to a file that is gone")) };
        content.seen.extend_from_slice(&bytes[..take]);
        if torn {
            Err(eio("write"))
        } else if fits < bytes.len() {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        } else {
            Ok(())
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.fails(Op::Sync) {
            self.forgot = true;
            return Err(eio("sync"));
        }
        if self.forgot {
            // It says yes and has done nothing: whoever asks again is deceived.
            return Ok(());
        }
        if let Some(content) = state.files.get_mut(&self.name) {
            content.durable = content.seen.clone();
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        match self.state().files.get(name) {
            Some(content) => Ok(Box::new(io::Cursor::new(content.seen.clone()))),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let mut state = self.state();
        if state.fails(Op::Create) {
            return Err(eio("create"));
        }
        let named = state.files.get(name).is_some_and(|content| content.named);
        state.files.insert(name.to_owned(), Content { named, ..Content::default() });
        Ok(Box::new(SimSink { disk: self.clone(), name: name.to_owned(), forgot: false }))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let mut state = self.state();
        if state.fails(Op::Create) {
            return Err(eio("open"));
        }
        state.files.entry(name.to_owned()).or_default();
        Ok(Box::new(SimSink { disk: self.clone(), name: name.to_owned(), forgot: false }))
    }

    fn truncate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.fails(Op::Truncate) {
            return Err(eio("truncate"));
        }
        if let Some(content) = state.files.get_mut(name) {
            content.seen.resize(usize::try_from(bytes).unwrap(), 0);
            content.durable = content.seen.clone();
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let content = state.files.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        for content in self.state().files.values_mut() {
            content.named = true;
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.free.or(state.capacity.map(|capacity| capacity.saturating_sub(state.used()))).unwrap_or(u64::MAX))
    }
}

//! Buckets in this process.
//!
//! Promises: bounded; a key that is forgotten was full, or, when nothing else makes room, among those
//! nearest to it. Counts by a clock that nobody sets. Called by the counters.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::time::Instant;

use crate::domain::limit::Bucket;
use crate::domain::limit::Grant;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;

/// Parts that are locked apart: one for each first digit of a key.
const SHARDS: usize = 16;

type Shard = HashMap<Key, (Bucket, Rate)>;

/// What every key has left.
#[derive(Debug)]
pub(super) struct Local {
    began: Instant,
    shards: [Mutex<Shard>; SHARDS],
    /// Keys of one shard, at most.
    room: usize,
}

impl Local {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { began: Instant::now(), shards: Default::default(), room: keys_max.div_ceil(SHARDS) }
    }

    pub(super) fn draw(&self, key: &Key, rate: &Rate, want: u64) -> Grant {
        self.with(key, rate, |bucket, now_ms| bucket.draw(rate, now_ms, want))
    }

    pub(super) fn spend(&self, key: &Key, rate: &Rate) {
        self.with(key, rate, |bucket, now_ms| bucket.spend(rate, now_ms));
    }

    fn with<T>(&self, key: &Key, rate: &Rate, work: impl FnOnce(&mut Bucket, u64) -> T) -> T {
        let digit = key.as_str().chars().next().and_then(|first| first.to_digit(16)).unwrap_or(0);
        let shard = self.shards.get(digit as usize).unwrap_or(&self.shards[0]);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // WHY under the lock: read before it, two callers could go back and forth in time.
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if shard.len() >= self.room && !shard.contains_key(key) {
            make_room(&mut shard, self.room, now_ms);
        }
        let (bucket, _) = shard.entry(key.clone()).or_insert_with(|| (Bucket::full(rate, now_ms), *rate));
        work(bucket, now_ms)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

/// Forgets full buckets; when that is not enough, an eighth of all: those that will be full soonest.
fn make_room(shard: &mut Shard, room: usize, now_ms: u64) {
    let full_in = |(bucket, rate): &(Bucket, Rate)| bucket.full_in_ms(rate, now_ms);
    shard.retain(|_, one| full_in(one) > 0);
    let kept = room - room.div_ceil(8);
    if shard.len() <= kept {
        return;
    }
    let mut waits: Vec<u64> = shard.values().map(full_in).collect();
    let surplus = waits.len() - kept;
    let (_, soon, _) = waits.select_nth_unstable(surplus - 1);
    let (soon, mut left) = (*soon, surplus);
    shard.retain(|_, one| {
        let goes = left > 0 && full_in(one) <= soon;
        left -= usize::from(goes);
        !goes
    });
}

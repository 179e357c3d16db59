//! Lists in pages, where not everybody may see everything.
//!
//! Promises: page after page gives each thing that may be seen once, newest first, however many
//! share a moment; what may not be seen leaves no gap. Never looks at more than a bounded number of
//! things at once: a page may be short, and then says where to go on.

use std::fmt;
use std::str::FromStr;

/// Things looked at in one go.
const BATCH: usize = 200;
/// Goes per page.
const GOES: usize = 10;

/// The place of a thing in a list: by the moment it began, then by its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its id.
    pub id: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at_ms, self.id)
    }
}

/// Not a cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no cursor; use the `next` of the page before, or leave it out")]
pub struct BadPlace;

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let (at_ms, id) = text.split_once('.').ok_or(BadPlace)?;
        Ok(Self { at_ms: at_ms.parse().map_err(|_| BadPlace)?, id: id.to_owned() })
    }
}

/// A page, and where the next one begins.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Place>,
}

/// Reads a page. `fetch` gives what began before a moment, newest first, up to a number.
pub(super) async fn page<T, E, F: Future<Output = Result<Vec<T>, E>>>(
    limit: usize,
    after: Option<Place>,
    mut fetch: impl FnMut(Option<i64>, usize) -> F,
    place: impl Fn(&T) -> Place,
    wanted: impl Fn(&T) -> bool,
) -> Result<Page<T>, E> {
    let mut before = after.as_ref().map(|after| after.at_ms.saturating_add(1));
    let mut items: Vec<T> = Vec::new();
    for _ in 0..GOES {
        let mut batch = fetch(before, BATCH).await?;
        batch.sort_by_key(|one| std::cmp::Reverse(place(one)));
        let oldest = batch.last().map(|one| place(one).at_ms).filter(|_| batch.len() >= BATCH);
        if let Some(oldest) = oldest {
            let of_one_moment = batch.first().is_some_and(|first| place(first).at_ms == oldest);
            if !of_one_moment {
                // WHY: the rest of its moment may have been cut off; it is fetched again, whole.
                batch.retain(|one| place(one).at_ms > oldest);
            }
            before = Some(if of_one_moment { oldest } else { oldest.saturating_add(1) });
        }
        for one in batch {
            if after.as_ref().is_none_or(|after| place(&one) < *after) && wanted(&one) {
                if items.len() == limit {
                    let next = items.last().map(&place);
                    return Ok(Page { items, next });
                }
                items.push(one);
            }
        }
        if oldest.is_none() {
            return Ok(Page { items, next: None });
        }
    }
    Ok(Page { items, next: before.map(|at_ms| Place { at_ms, id: String::new() }) })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn all(things: &[(i64, usize)], limit: usize, wanted: fn(usize) -> bool) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut after: Option<Place> = None;
        loop {
            let fetch = |before: Option<i64>, many: usize| {
                let mut found: Vec<_> =
                    things.iter().filter(|(at, _)| before.is_none_or(|before| *at < before)).copied().collect();
                found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
                found.truncate(many);
                std::future::ready(Ok::<_, Infallible>(found))
            };
            let place = |one: &(i64, usize)| Place { at_ms: one.0, id: format!("{:05}", one.1) };
            let Ok(page) = page(limit, after.clone(), fetch, place, |one| wanted(one.1)).await;
            assert!(page.items.len() <= limit);
            seen.extend(page.items.iter().map(|one| one.1));
            let Some(next) = page.next else { return seen };
            assert!(after.is_none_or(|after| next < after), "it gets on");
            after = Some(next.to_string().parse().unwrap());
        }
    }

    #[tokio::test]
    async fn every_thing_that_may_be_seen_is_listed_once_though_many_share_a_moment() {
        let things: Vec<_> = (0..1000).map(|n| (i64::try_from(n / 70).unwrap(), n)).collect();
        for limit in [1, 50, 300] {
            let mut seen = all(&things, limit, |n| n % 7 == 0).await;
            assert!(seen.windows(2).all(|pair| pair[0] / 70 >= pair[1] / 70), "newest first");
            seen.sort_unstable();
            assert_eq!(seen, (0..1000).filter(|n| n % 7 == 0).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_page_looks_at_a_bounded_number_of_things_and_says_where_to_go_on() {
        let things: Vec<_> = (0..5000).map(|n| (i64::try_from(n).unwrap(), n)).collect();
        assert_eq!(all(&things, 10, |n| n == 3).await, [3]);
    }

    #[test]
    fn a_cursor_that_is_none_is_refused() {
        for bad in ["", "7", "x.y", "9999999999999999999999.a"] {
            assert_eq!(bad.parse::<Place>(), Err(BadPlace), "{bad}");
        }
    }
}

//! Cursors of a paginated `tools/list`: opaque to clients, and good for as long as names sort.
//!
//! Promises: a page continues after the last tool shown, even if that tool is gone or others came
//! since; a cursor that was not made here is a fault, never page one. Never remembers anything.
//! Called by `pep`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::refusal::Fault;

/// Says which shape a cursor has, so that another can come later.
const VERSION: &str = "1:";

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<'a, T> {
    /// What to show now.
    pub items: &'a [T],
    /// Where the next page begins, when there is one.
    pub next_cursor: Option<String>,
}

/// The cursor that continues after `name`.
#[must_use]
pub fn after(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{VERSION}{name}"))
}

/// The name that a client's cursor continues after.
pub fn read(cursor: &str) -> Result<String, Fault> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(VERSION).map(str::to_owned))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Fault::new(200, -32602, "this `cursor` was not given by this server; list again without one"))
}

/// At most `size` of `items`, which are sorted by `name`, from where the cursor points.
pub fn page<'a, T>(
    items: &'a [T],
    cursor: Option<&str>,
    size: usize,
    name: impl Fn(&T) -> &str,
) -> Result<Page<'a, T>, Fault> {
    let start = match cursor.map(read).transpose()? {
        Some(last) => items.partition_point(|item| name(item) <= last.as_str()),
        None => 0,
    };
    let rest = items.get(start..).unwrap_or_default();
    let shown = rest.get(..size.max(1)).unwrap_or(rest);
    let next_cursor = if shown.len() < rest.len() { shown.last().map(|item| after(name(item))) } else { None };
    Ok(Page { items: shown, next_cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_show_every_tool_once_and_then_end() {
        let tools = ["a", "b", "c", "d", "e"];
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = page(&tools, cursor.as_deref(), 2, |tool| tool).unwrap();
            seen.extend_from_slice(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, tools);
        assert_eq!(page(&tools, None, 5, |tool| tool).unwrap().next_cursor, None);
        assert_eq!(page::<&str>(&[], None, 5, |tool| tool).unwrap(), Page { items: &[], next_cursor: None });
    }

    #[test]
    fn a_page_continues_after_a_tool_that_is_gone() {
        assert_eq!(page(&["a", "c", "d"], Some(&after("b")), 9, |tool| tool).unwrap().items, ["c", "d"]);
        assert_eq!(page(&["a"], Some(&after("z")), 9, |tool| tool).unwrap().items, [""; 0]);
    }

    #[test]
    fn a_cursor_that_was_not_made_here_is_a_fault() {
        for cursor in ["", "invalid-cursor", "MTo", "YWJj", "!!", "MTph="] {
            let fault = read(cursor).expect_err(cursor);
            assert_eq!((fault.status, fault.code), (200, -32602));
        }
        assert_eq!(read(&after("loopiq_x")).unwrap(), "loopiq_x");
    }
}

//! Text from outside that a model or a person will read.
//!
//! Promises: what [`plain`] returns has no control, bidirectional, zero-width, tag or private
//! characters, is bounded, and is otherwise the text given. Never interprets it.
//! Called for descriptions (catalog), argument names (schema faults) and backend messages (inspect).

/// Whether a character can hide or reorder what a reader sees: controls, bidirectional marks and
/// overrides, zero-width characters, line and paragraph separators, variation selectors, the tag
/// block (U+E0000), interlinear annotations, private use and noncharacters.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0xAD | 0x61C
                | 0x115F..=0x1160
                | 0x17B4..=0x17B5
                | 0x180B..=0x180F
                | 0x200B..=0x200F
                | 0x2028..=0x202E
                | 0x2060..=0x206F
                | 0x3164
                | 0xE000..=0xF8FF
                | 0xFDD0..=0xFDEF
                | 0xFE00..=0xFE0F
                | 0xFEFF
                | 0xFFA0
                | 0xFFF0..=0xFFFB
                | 0xE0000..=0xE0FFF
                | 0xF0000..
        )
        || u32::from(c) & 0xFFFE == 0xFFFE
}

/// The text without hidden characters, white space runs as one space, at most `chars_max` characters.
#[must_use]
pub fn plain(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut kept = 0;
    let spaced = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_hidden(*c));
    for c in spaced {
        if c == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if kept == chars_max {
            out.push('…');
            break;
        }
        out.push(c);
        kept += 1;
    }
    out.truncate(out.trim_end().len());
    out
}

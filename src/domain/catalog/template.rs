//! Route templates and the one way a value becomes a path segment.
//!
//! Promises: a value fills exactly one segment, whatever it holds; a raw path is decoded exactly
//! once per segment; what could mean two things to two readers is refused, not repaired.
//! Never normalises. Called by `request` (building) and `resolve` (matching).

use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;

/// Everything but RFC 3986 unreserved characters is encoded.
pub(super) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `/path/{var}`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Variable(String),
}

/// Why a text cannot be one path segment, or a raw path cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathFault {
    #[error("is empty")]
    Empty,
    #[error("is or hides a dot segment (`.` or `..`)")]
    Dots,
    #[error("has a control or invisible character")]
    Hidden,
    #[error("is not in Unicode normalisation form C")]
    Denormal,
    #[error("has a slash or backslash inside a segment")]
    Slash,
    #[error("has a broken percent escape")]
    Escape,
    #[error("is not UTF-8 once decoded")]
    Utf8,
    #[error("must start with `/` and be a path only, without `?` or `#`")]
    Form,
}

impl Template {
    /// Reads a template; the message says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("the path must start with `/`")?;
        let segments = rest.split('/').map(segment).collect::<Result<Vec<_>, String>>()?;
        let template = Self { segments };
        let mut names: Vec<&str> = template.variables().collect();
        names.sort_unstable();
        match names.windows(2).find_map(|pair| pair.first().filter(|name| Some(*name) == pair.last())) {
            Some(name) => Err(format!("variable `{{{name}}}` stands twice")),
            None => Ok(template),
        }
    }

    /// Names of the variables, left to right.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The values of the variables if these decoded segments are a path of this template.
    pub(super) fn matches(&self, path: &[String]) -> Option<Vec<(String, String)>> {
        if path.len() != self.segments.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, part) in self.segments.iter().zip(path) {
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Literal(_) => return None,
                Segment::Variable(name) => values.push((name.clone(), part.clone())),
            }
        }
        Some(values)
    }

    /// Orders templates so that, left to right, a literal comes before a variable.
    pub(super) fn rank(&self) -> Vec<bool> {
        self.segments.iter().map(|segment| matches!(segment, Segment::Variable(_))).collect()
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let mut bytes = name.bytes();
        let proper = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if proper {
            Ok(Segment::Variable(name.to_owned()))
        } else {
            Err(format!("`{text}` is not a variable name"))
        };
    }
    let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    match text {
        "" => Err("the path has an empty segment".to_owned()),
        "." | ".." => Err("the path has a dot segment".to_owned()),
        _ if text.bytes().all(literal) => Ok(Segment::Literal(text.to_owned())),
        _ => Err(format!("segment `{text}` must be a literal or one whole `{{variable}}`")),
    }
}

/// Encodes a value as one segment.
pub(super) fn encode(value: &str) -> Result<String, PathFault> {
    plain_segment(value)?;
    if hides_dots(value) {
        return Err(PathFault::Dots);
    }
    Ok(percent_encoding::utf8_percent_encode(value, ENCODED).to_string())
}

/// Takes a raw path apart and decodes each segment exactly once.
pub(super) fn decode(path: &str) -> Result<Vec<String>, PathFault> {
    if path.contains(['?', '#']) {
        return Err(PathFault::Form);
    }
    let rest = path.strip_prefix('/').ok_or(PathFault::Form)?;
    rest.split('/').map(decode_segment).collect()
}

fn decode_segment(raw: &str) -> Result<String, PathFault> {
    if raw.contains('\\') {
        return Err(PathFault::Slash);
    }
    let value = decode_once(raw)?;
    if value.contains(['/', '\\']) {
        return Err(PathFault::Slash);
    }
    plain_segment(&value)?;
    if hides_dots(&value) { Err(PathFault::Dots) } else { Ok(value) }
}

fn decode_once(raw: &str) -> Result<String, PathFault> {
    let escaped = |rest: &str| {
        let mut bytes = rest.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit())
            && bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit())
    };
    if !raw.split('%').skip(1).all(escaped) {
        return Err(PathFault::Escape);
    }
    let value = percent_encoding::percent_decode_str(raw).decode_utf8().map_err(|_| PathFault::Utf8)?;
    Ok(value.into_owned())
}

fn plain_segment(value: &str) -> Result<(), PathFault> {
    if value.is_empty() {
        return Err(PathFault::Empty);
    }
    if value.chars().any(super::text::is_hidden) {
        return Err(PathFault::Hidden);
    }
    if !icu_normalizer::ComposingNormalizerBorrowed::new_nfc().is_normalized(value) {
        return Err(PathFault::Denormal);
    }
    Ok(())
}

/// Whether some reader behind us (one that decodes again, or takes `%2F`, `\` or `;` for its own)
/// would see a dot segment in this value.
fn hides_dots(value: &str) -> bool {
    // WHY: three rounds, because proxies that decode twice exist and ones that decode thrice do not matter.
    let mut value = value.to_owned();
    for _ in 0..3 {
        if value.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | ".."))) {
            return true;
        }
        let decoded = percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned();
        if decoded == value {
            return false;
        }
        value = decoded;
    }
    false
}

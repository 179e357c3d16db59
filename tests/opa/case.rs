//! Reading OPA's cases.

use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// One case: what is asked of which rules, and what OPA answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Case {
    #[serde(default)]
    pub(crate) folder: String,
    pub(crate) note: String,
    pub(crate) query: String,
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    #[serde(default)]
    pub(crate) data: Option<Value>,
    #[serde(default)]
    pub(crate) input: Option<Value>,
    #[serde(default)]
    pub(crate) input_term: Option<String>,
    #[serde(default)]
    pub(crate) want_result: Option<Vec<Value>>,
    #[serde(default)]
    pub(crate) want_error_code: Option<String>,
    #[serde(default)]
    pub(crate) want_error: Option<String>,
    /// Whether OPA's own runner puts lists in order before it compares.
    #[serde(default)]
    pub(crate) sort_bindings: bool,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

/// Every case of an archive, by folder.
pub(crate) fn read(file: &str) -> Vec<Case> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(file).unwrap()));
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let folder = path.parent().and_then(|folder| folder.file_name()).unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let cases: Cases = serde_json::from_str(&text).unwrap();
        found.extend(cases.cases.into_iter().map(|case| Case { folder: folder.clone(), ..case }));
    }
    found.sort_by(|a, b| (&a.folder, &a.note).cmp(&(&b.folder, &b.note)));
    found
}

/// What is asked: a reference or expression, and the name that OPA gives its value.
pub(crate) struct Question {
    pub(crate) expression: String,
    pub(crate) variable: Option<String>,
}

impl Case {
    /// The one expression that the query asks for; nothing for a query of several statements, or one
    /// that wants several values.
    pub(crate) fn question(&self) -> Option<Question> {
        let query = self.query.trim();
        let name = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        if query.contains("; ") || self.want_result.as_ref().is_some_and(|results| results.len() > 1) {
            return None;
        }
        let sides = query.split_once(" = ").map(|(left, right)| (left.trim(), right.trim()));
        let (expression, variable) = match sides {
            Some((left, right)) if name(right) && right != "input" => (left, Some(right.to_owned())),
            Some((left, right)) if name(left) => (right, Some(left.to_owned())),
            Some(_) => return None,
            None => (query, None),
        };
        // A name in brackets that nothing binds asks for every key in turn.
        let open = expression.split('[').skip(1).any(|index| index.split(']').next().is_some_and(name));
        (!open || expression.starts_with('$')).then(|| Question { expression: expression.to_owned(), variable })
    }
}

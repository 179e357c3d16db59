//! A bundle: the policy files, their tests and the data that a security team edits.
//!
//! Promises: what is in a [`Bundle`] was read as text, as YAML without duplicate keys, or as JSON;
//! the same files give the same digests whatever order they came in; every fault is reported at
//! once, with its place and what to do. Never reads a file and never compiles one: `pdp::lint` and
//! `pdp::engine` do that next. Called by `adapters::reload::bundle`,
//! `pdp::archive` and the policy commands.

pub mod code;
mod shape;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::canonical;
use crate::domain::pdp::bundle::code::Code;

/// Bytes that one file of a bundle may have; regorus' own bound, and far beyond what people edit.
const FILE_BYTES_MAX: usize = 1_048_576;

/// Depth that a data file may have; regorus refuses 128, and tables of a security team need five.
pub(super) const DATA_DEPTH_MAX: usize = 64;

/// Something in a bundle that keeps it from being loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct BundleFault {
    /// File, relative to the bundle's root; empty when the fault is not in one file.
    pub path: String,
    /// Line, from 1; 0 when there is none.
    pub line: u32,
    /// Column, from 1; 0 when there is none.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// What kind of fault it is.
    #[serde(default)]
    pub code: Code,
}

impl BundleFault {
    /// A fault of a whole file, or of the bundle when `path` is empty.
    #[must_use]
    pub fn new(path: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { path: path.to_owned(), line: 0, column: 0, message, remedy, code: Code::default() }
    }

    /// The same fault, of a kind that programs know.
    #[must_use]
    pub fn coded(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The same fault, at a place in its file.
    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Self {
        self.line = line;
        self.column = column;
        self
    }
}

impl fmt::Display for BundleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.is_empty(), self.line) {
            (true, _) => write!(f, "{}", self.message)?,
            (false, 0) => write!(f, "{}: {}", self.path, self.message)?,
            (false, line) => write!(f, "{}:{line}:{}: {}", self.path, self.column, self.message)?,
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Policy files, test files and data, read but not yet compiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    files: Vec<(String, String)>,
    tests: Vec<(String, String)>,
    data: Value,
    schema: Option<String>,
    digest: String,
    data_digest: String,
}

impl Bundle {
    /// Reads a bundle from (relative path, bytes) of its files.
    ///
    /// `*.rego` are policies, `*_test.rego` their tests, `data/<name>.yaml` (or `.yml`, `.json`)
    /// becomes `data.<name>`, and `schema/data.json` says what that may be. Anything else is left alone.
    pub fn from_files(mut files: Vec<(String, Vec<u8>)>) -> Result<Self, Vec<BundleFault>> {
        files.sort();
        let mut draft = Draft::default();
        for (path, bytes) in files {
            match Kind::of(&path) {
                None => {}
                Some(Kind::Policy) => draft.policy(path, bytes),
                Some(Kind::Schema) => draft.schema(&path, bytes),
                Some(Kind::Data { name }) => draft.data_file(name, path, bytes),
            }
        }
        draft.finish()
    }

    /// Policy files: (relative path, text), by path.
    #[must_use]
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// Test files: (relative path, text), by path.
    #[must_use]
    pub fn tests(&self) -> &[(String, String)] {
        &self.tests
    }

    /// What policies see as `data`.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// The JSON Schema that the data fits, as text; none when the bundle carries none.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The same policies with other data, for trying what a change of the data would do.
    pub(super) fn with_data(&self, data: Value) -> Result<Self, canonical::NotCanonical> {
        let data_digest = canonical::digest_value(&data)?;
        Ok(Self { data, data_digest, ..self.clone() })
    }

    /// SHA-256 (hex) over the policy files.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256 (hex) over the canonical form of the data.
    #[must_use]
    pub fn data_digest(&self) -> &str {
        &self.data_digest
    }
}

/// A bundle as its files are read, from a folder or from an archive.
#[derive(Default)]
pub(super) struct Draft {
    policies: Vec<(String, String)>,
    tests: Vec<(String, String)>,
    data: Map<String, Value>,
    /// Which file gave which member of the data.
    origins: BTreeMap<String, String>,
    schema: Option<String>,
    faults: Vec<BundleFault>,
}

impl Draft {
    /// Takes a `.rego` file; `*_test.rego` are tests.
    pub(super) fn policy(&mut self, path: String, bytes: Vec<u8>) {
        let into = if path.ends_with("_test.rego") { &mut self.tests } else { &mut self.policies };
        match read(&path, bytes) {
            Ok(text) => into.push((path, text)),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Takes the schema of the data.
    pub(super) fn schema(&mut self, path: &str, bytes: Vec<u8>) {
        match read(path, bytes) {
            Ok(text) => self.schema = Some(text),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Takes the whole data, read by whoever knows its layout. `origins` says which file gave which member.
    pub(super) fn data(&mut self, data: Map<String, Value>, origins: BTreeMap<String, String>) {
        (self.data, self.origins) = (data, origins);
    }

    fn data_file(&mut self, name: String, path: String, bytes: Vec<u8>) {
        let placed = read(&path, bytes).and_then(|text| place(&mut self.data, name.clone(), &path, &text));
        match placed {
            Ok(()) => drop(self.origins.insert(name, path)),
            Err(fault) => self.faults.push(fault),
        }
    }

    /// The bundle, or every fault of its files.
    pub(super) fn finish(mut self) -> Result<Bundle, Vec<BundleFault>> {
        self.policies.sort();
        self.tests.sort();
        if self.policies.is_empty() && self.faults.is_empty() {
            self.faults.push(BundleFault::new(
                "",
                "the bundle has no policy file",
                "put the `.rego` files under the bundle's directory; the entry point is `data.loopiq.gateway.decision`",
            ));
        }
        let data = Value::Object(self.data);
        if let Some(schema) = self.schema.as_ref().filter(|_| self.faults.is_empty()) {
            self.faults.extend(shape::check(schema, &data, &self.origins));
        }
        match canonical::digest_value(&data) {
            Err(cause) => self.faults.push(BundleFault::new(
                "",
                format!("the data has no canonical form: {cause}"),
                "keep integers in the data files within 2^53",
            )),
            Ok(data_digest) if self.faults.is_empty() => {
                let digest = digest_of_files(&self.policies);
                let Self { policies: files, tests, schema, .. } = self;
                return Ok(Bundle { files, tests, data, schema, digest, data_digest });
            }
            Ok(_) => {}
        }
        Err(self.faults)
    }
}

/// What a file of a bundle's folder is.
enum Kind {
    Policy,
    Schema,
    Data { name: String },
}

impl Kind {
    fn of(path: &str) -> Option<Self> {
        if path == shape::SCHEMA {
            return Some(Self::Schema);
        }
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let (stem, extension) = file.rsplit_once('.')?;
        match extension {
            "rego" => Some(Self::Policy),
            "yaml" | "yml" | "json" if folder == "data" => Some(Self::Data { name: stem.to_owned() }),
            _ => None,
        }
    }
}

fn read(path: &str, bytes: Vec<u8>) -> Result<String, BundleFault> {
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, and {FILE_BYTES_MAX} are allowed", bytes.len());
        return Err(BundleFault::new(path, message, "split it by concern"));
    }
    String::from_utf8(bytes).map_err(|cause| {
        BundleFault::new(path, format!("the file is not UTF-8 text: {}", cause.utf8_error()), "save it as UTF-8")
    })
}

fn place(data: &mut Map<String, Value>, name: String, path: &str, text: &str) -> Result<(), BundleFault> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain {
        return Err(BundleFault::new(
            path,
            format!("`{name}` cannot be a name under `data`"),
            "name the file with lower case letters, digits and `_`",
        ));
    }
    let value = parse_data(path, text)?;
    if deeper_than(&value, DATA_DEPTH_MAX) {
        return Err(BundleFault::new(path, format!("the data is nested deeper than {DATA_DEPTH_MAX}"), "flatten it"));
    }
    if data.contains_key(&name) {
        let message = format!("another file already gives `data.{name}`");
        return Err(BundleFault::new(path, message, "keep one of the two files"));
    }
    data.insert(name, value);
    Ok(())
}

/// JSON goes through the YAML reader too: it is a subset, and this reader refuses duplicate keys.
pub(super) fn parse_data(path: &str, text: &str) -> Result<Value, BundleFault> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options::<Value>(text, options).map_err(|cause| {
        let fault =
            BundleFault::new(path, first_line(&cause.to_string()), "correct the file; the rest of it was not read");
        match cause.location() {
            Some(place) => fault.at(number(place.line()), number(place.column())),
            None => fault,
        }
    })
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("the file cannot be read").trim().to_owned()
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) fn deeper_than(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth == 0 || items.iter().any(|item| deeper_than(item, depth - 1)),
        Value::Object(members) => depth == 0 || members.values().any(|member| deeper_than(member, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Lengths stand before paths and texts, so that no two sets of files have the same bytes.
fn digest_of_files(files: &[(String, String)]) -> String {
    let mut bytes = Vec::new();
    for part in files.iter().flat_map(|(path, text)| [path, text]) {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    canonical::digest(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> (String, Vec<u8>) {
        (path.to_owned(), text.as_bytes().to_vec())
    }

    #[test]
    fn the_order_of_files_changes_no_digest_and_a_moved_byte_does() {
        let one = Bundle::from_files(vec![file("a.rego", "package a"), file("b.rego", "package b")]).unwrap();
        let two = Bundle::from_files(vec![file("b.rego", "package b"), file("a.rego", "package a")]).unwrap();
        let moved = Bundle::from_files(vec![file("a.rego", "package ap"), file("b.rego", "ackage b")]).unwrap();
        assert_eq!(one, two);
        assert_ne!(one.digest(), moved.digest());
    }

    #[test]
    fn a_comment_in_a_data_file_changes_no_digest_and_a_value_does() {
        let with =
            |yaml: &str| Bundle::from_files(vec![file("a.rego", "package a"), file("data/t.yaml", yaml)]).unwrap();
        let plain = with("org: {on: true}\n");
        assert_eq!(plain.data_digest(), with("# why\norg:\n  on: true\n").data_digest());
        assert_ne!(plain.data_digest(), with("org: {on: false}\n").data_digest());
        assert_eq!(plain.data()["t"]["org"]["on"], Value::Bool(true));
    }

    #[test]
    fn tests_are_kept_apart_and_count_for_no_digest() {
        let bare = Bundle::from_files(vec![file("a.rego", "package a")]).unwrap();
        let tested =
            Bundle::from_files(vec![file("a.rego", "package a"), file("a_test.rego", "package a_test")]).unwrap();
        assert_eq!(bare.digest(), tested.digest());
        assert_eq!(tested.tests().len(), 1);
        assert_eq!(tested.files().len(), 1);
    }

    #[test]
    fn a_duplicate_key_is_refused_in_yaml_and_in_json_with_its_place() {
        for (path, text) in [("data/t.yaml", "a: 1\nb: 2\na: 3\n"), ("data/t.json", "{\"a\": 1,\n\"b\": 2,\n\"a\": 3}")]
        {
            let faults = Bundle::from_files(vec![file("a.rego", "package a"), file(path, text)]).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!((faults[0].path.as_str(), faults[0].line), (path, 3), "{faults:?}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = Bundle::from_files(vec![
            ("a.rego".to_owned(), vec![0xff, 0xfe]),
            file("data/Tenants.yaml", "a: 1"),
            file("data/roles.yaml", "a: [1"),
            file("data/t.yaml", "a: 1"),
            file("data/t.json", "{}"),
        ])
        .unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["a.rego", "data/Tenants.yaml", "data/roles.yaml", "data/t.yaml"], "{faults:?}");
    }

    #[test]
    fn data_nested_without_end_is_refused() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let faults = Bundle::from_files(vec![file("a.rego", "package a"), file("data/t.json", &deep)]).unwrap_err();
        assert_eq!(faults[0].path, "data/t.json");
    }

    #[test]
    fn a_slip_in_a_table_is_named_with_its_file() {
        let schema = r#"{"type": "object", "additionalProperties": false, "properties": {"tenants": {"type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": false, "required": ["mcp_enabled"],
                                     "properties": {"mcp_enabled": {"type": "boolean"}}}}}}"#;
        let with = |yaml: &str| {
            let files = [("a.rego", "package a"), ("schema/data.json", schema), ("data/tenants.yaml", yaml)];
            Bundle::from_files(files.map(|(path, text)| file(path, text)).to_vec())
        };
        with("org: {mcp_enabled: true}").unwrap();
        for slip in ["org: {mcp_enabled: yes}", "org: {mcp_enabled: true, mcp_enable: false}", "org: {}", "[]"] {
            let faults = with(slip).unwrap_err();
            assert!(faults.iter().all(|fault| fault.path == "data/tenants.yaml"), "{slip}: {faults:?}");
        }
        let stray = [("a.rego", "package a"), ("schema/data.json", schema), ("data/tenant.yaml", "org: {}")];
        assert!(Bundle::from_files(stray.map(|(path, text)| file(path, text)).to_vec()).is_err());
        let broken = [("a.rego", "package a"), ("schema/data.json", "{\"type\": 3}")];
        let faults = Bundle::from_files(broken.map(|(path, text)| file(path, text)).to_vec()).unwrap_err();
        assert_eq!(faults[0].path, "schema/data.json");
    }

    #[test]
    fn an_empty_bundle_is_refused() {
        assert!(Bundle::from_files(Vec::new()).is_err());
        assert!(Bundle::from_files(vec![file("data/t.yaml", "a: 1")]).is_err());
    }
}

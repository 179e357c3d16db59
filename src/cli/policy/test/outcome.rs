//! What became of each test and case, told as it happens or as JSON at the end.
//!
//! Promises: what failed is always told, with what it saw; text from policies and cases is printed
//! with nothing hidden in it. Called by `policy test`.

use std::io;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::cli::policy::PolicyFault;
use crate::cli::policy::explain::words;
use crate::cli::print::BAD;
use crate::cli::print::GOOD;
use crate::cli::print::PLAIN;
use crate::cli::print::plain;
use crate::cli::print::plain_json;
use crate::domain::pdp::explain::Told;

/// How one came out.
pub(super) enum Result {
    /// As it should; with what is to be said of it.
    Pass(String),
    /// It did not; what was not as expected, and the test's conditions.
    Fail(Vec<String>, Vec<Told>),
    /// The engine gave up.
    Error(String, Vec<Told>),
    /// To do.
    Skipped,
}

/// One that is done.
pub(super) struct Done {
    /// The package of a test, the file of a case.
    pub(super) package: String,
    pub(super) name: String,
    /// File, line and column; no line for a case.
    pub(super) place: (String, u32, u32),
    pub(super) took: Duration,
    pub(super) came: Result,
}

/// What has been run so far.
pub(super) struct Tally {
    verbose: bool,
    json: bool,
    dir: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    done: Vec<Value>,
    case: Option<String>,
}

impl Tally {
    pub(super) fn new(verbose: bool, json: bool, dir: &Path) -> Self {
        let (dir, done) = (dir.display().to_string(), Vec::new());
        Self { verbose, json, dir, passed: 0, failed: 0, skipped: 0, done, case: None }
    }

    /// Counts one, and tells what is to be told of it.
    pub(super) fn add(&mut self, done: &Done, out: &mut dyn Write) -> io::Result<()> {
        match &done.came {
            Result::Pass(_) => self.passed += 1,
            Result::Skipped => self.skipped += 1,
            Result::Fail(..) | Result::Error(..) => self.failed += 1,
        }
        if self.json {
            self.done.push(done.json());
            return Ok(());
        }
        let quiet = matches!(done.came, Result::Pass(_) | Result::Skipped);
        if !quiet && done.place.1 == 0 {
            self.case.get_or_insert_with(|| done.name.clone());
        }
        if quiet && !self.verbose { Ok(()) } else { done.tell(out) }
    }

    /// Sums up; the answer is no if anything failed.
    pub(super) fn end(self, covers: bool, out: &mut dyn Write) -> std::result::Result<(), PolicyFault> {
        let total = self.passed + self.failed;
        if self.json {
            if !covers {
                writeln!(out, "{}", plain_lines(&format!("{:#}", Value::from(self.done))))?;
            }
        } else {
            if let Some(name) = &self.case {
                let (dir, name) = (plain(&self.dir), plain(name));
                writeln!(out, "to see why: loopgate policy explain {dir} --case {name:?}")?;
            }
            if self.passed > 0 {
                writeln!(out, "{GOOD}PASS{PLAIN}: {}/{total}", self.passed)?;
            }
            if self.failed > 0 {
                writeln!(out, "{BAD}FAIL{PLAIN}: {}/{total}", self.failed)?;
            }
            if self.skipped > 0 {
                writeln!(out, "SKIPPED: {}", self.skipped)?;
            }
        }
        match (self.failed, total) {
            (0, 0) => Err(PolicyFault::Usage("no test was run: none is there, or none matches --run".to_owned())),
            (0, _) => Ok(()),
            (failed, total) => Err(PolicyFault::Failed(failed, total)),
        }
    }
}

/// JSON over several lines, with nothing in it that a terminal obeys.
pub(super) fn plain_lines(json: &str) -> String {
    json.lines().map(plain_json).collect::<Vec<_>>().join("\n")
}

impl Done {
    fn tell(&self, out: &mut dyn Write) -> io::Result<()> {
        let (path, line, _) = &self.place;
        let of_case = *line == 0;
        let name = if of_case { format!("{path}: {}", self.name) } else { format!("{}.{}", self.package, self.name) };
        let (colour, word, said) = match &self.came {
            Result::Pass(said) => (GOOD, "PASS", said.as_str()),
            Result::Fail(..) => (BAD, "FAIL", ""),
            Result::Error(..) => (BAD, "ERROR", ""),
            Result::Skipped => ("", "SKIPPED", ""),
        };
        let about = match (of_case, said) {
            (true, "") => String::new(),
            (true, said) => format!(" ({said})"),
            (false, _) => format!(" ({:.1?}, {}:{line})", self.took, plain(path)),
        };
        writeln!(out, "{}: {colour}{word}{PLAIN}{about}", plain(&name))?;
        match &self.came {
            Result::Pass(_) | Result::Skipped => Ok(()),
            Result::Fail(wrong, told) => {
                wrong.iter().try_for_each(|words| writeln!(out, "  {}", plain(words)))?;
                words::failed(told, out)
            }
            Result::Error(cause, told) => {
                writeln!(out, "  {}", plain(cause))?;
                words::failed(told, out)
            }
        }
    }

    fn json(&self) -> Value {
        let (path, line, column) = &self.place;
        let mut location = json!({"file": path});
        if *line > 0 {
            location = json!({"file": path, "row": line, "col": column});
        }
        let mut done = json!({
            "location": location,
            "package": self.package,
            "name": self.name,
            "duration": u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX),
        });
        let more = match &self.came {
            Result::Pass(_) => json!({}),
            Result::Skipped => json!({"skip": true}),
            Result::Fail(wrong, told) => json!({"fail": true, "differences": wrong, "conditions": told}),
            Result::Error(cause, told) => {
                json!({"fail": true, "error": {"code": "eval_error", "message": cause}, "conditions": told})
            }
        };
        if let (Some(done), Value::Object(more)) = (done.as_object_mut(), more) {
            done.extend(more);
        }
        done
    }
}

//! Cases are judged in a child, so that one that ends the process is known by name.

use std::env;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use crate::case::Case;
use crate::verdict;
use crate::verdict::Outcome;
use crate::verdict::Verdict;

/// Makes this program the child.
pub(crate) const FLAG: &str = "--judge";

/// Stack of the thread that judges: that of the threads that decide.
const STACK_BYTES: usize = 2 << 20;

/// Judges every case. A child that ends has judged all but the last case it was given.
pub(crate) fn judge(cases: &[Case]) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = Vec::new();
    while let Some(left) = cases.get(verdicts.len()..).filter(|left| !left.is_empty()) {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(FLAG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut from = from.lines();
        for case in left {
            // One at a time, so that the last one given is the one that ended it.
            let given = writeln!(to, "{}", serde_json::to_string(case).unwrap());
            let answer = given.ok().and_then(|()| from.next()?.ok());
            let Some(answer) = answer else {
                verdicts.push(Verdict::new(Outcome::Died, "the case ended the process"));
                break;
            };
            verdicts.push(serde_json::from_str(&answer).unwrap());
        }
        drop(to);
        child.wait().unwrap();
    }
    verdicts
}

/// The child: one case a line in, one verdict a line out.
pub(crate) fn serve() {
    let judging = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        for line in std::io::stdin().lock().lines() {
            let case: Case = serde_json::from_str(&line.unwrap()).unwrap();
            let verdict = serde_json::to_string(&verdict::of(&case)).unwrap();
            println!("{verdict}");
        }
    });
    judging.unwrap().join().unwrap();
}

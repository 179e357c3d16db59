//! What a test or a case costs: time of the thread and of the clock, and instructions.
//!
//! Promises: measures what serves (`Pdp::decide`) for cases and the interpreter for tests, each so
//! often; on a busy machine the time of the thread is the one to compare. Asserts nothing.
//! Called by `policy test --bench`.

use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use rustix::time::ClockId;
use rustix::time::clock_gettime;
use serde_json::Value;
use serde_json::json;

use crate::cli::policy::PolicyFault;
use crate::cli::policy::test::Work;
use crate::cli::policy::test::outcome::plain_lines;
use crate::cli::policy::test::wanted;
use crate::cli::print::PLAIN;
use crate::cli::print::STRONG;
use crate::cli::print::plain;
use crate::domain::pdp::ruling::Engine;

/// One measurement.
struct Measured {
    package: String,
    name: String,
    engine: &'static str,
    cpu: Duration,
    wall: Duration,
    instructions: Option<usize>,
}

pub(super) fn run(work: &Work, count: u32, json: bool, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let (mut all, mut any) = (Vec::new(), false);
    if !json {
        writeln!(
            out,
            "{STRONG}{:>12} {:>12} {:>13}  {:11}  name{PLAIN}",
            "cpu/op", "wall/op", "instructions", "engine"
        )?;
    }
    for test in work.suite.tests().iter().filter(|test| !test.todo && wanted(work.only.as_ref(), &test.name)) {
        any = true;
        let (cpu, wall) = measure(count, || drop(work.suite.run(test, None)));
        let (package, name) = test.name.rsplit_once('.').unwrap_or(("", &test.name));
        let engine = Engine::Interpreter.as_str();
        let (package, name) = (package.to_owned(), name.to_owned());
        note(&Measured { package, name, engine, cpu, wall, instructions: None }, json, &mut all, out)?;
    }
    for (path, table) in &work.tables {
        for case in table.cases.iter().filter(|case| wanted(work.only.as_ref(), &case.name)) {
            let Ok(input) = table.input(case, &work.tools) else { continue };
            any = true;
            let (cpu, wall) = measure(count, || drop(work.pdp.decide(&input)));
            let instructions = work.pdp.instructions(&input);
            let (package, name, engine) = (path.clone(), case.name.clone(), work.pdp.engine().as_str());
            note(&Measured { package, name, engine, cpu, wall, instructions }, json, &mut all, out)?;
        }
    }
    if !any {
        return Err(PolicyFault::Usage("nothing was measured: no test is there, or none matches --run".to_owned()));
    }
    if json {
        writeln!(out, "{}", plain_lines(&format!("{:#}", Value::from(all))))?;
    }
    Ok(())
}

fn note(one: &Measured, json: bool, all: &mut Vec<Value>, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        all.push(json!({
            "package": one.package,
            "name": one.name,
            "engine": one.engine,
            "cpu_ns_per_op": nanos(one.cpu),
            "wall_ns_per_op": nanos(one.wall),
            "instructions": one.instructions,
        }));
        return Ok(());
    }
    let instructions = one.instructions.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let (cpu, wall) = (format!("{:.1?}", one.cpu), format!("{:.1?}", one.wall));
    let name = plain(&format!("{}: {}", one.package, one.name));
    writeln!(out, "{cpu:>12} {wall:>12} {instructions:>13}  {:11}  {name}", one.engine)
}

/// The mean of so many runs, after one that warms up.
fn measure(count: u32, mut work: impl FnMut()) -> (Duration, Duration) {
    work();
    let (begun, cpu) = (Instant::now(), of_thread());
    (0..count).for_each(|_| work());
    (of_thread().saturating_sub(cpu) / count, begun.elapsed() / count)
}

/// Time that this thread has had a processor.
fn of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

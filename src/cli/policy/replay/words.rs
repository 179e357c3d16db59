//! A replay report on a terminal.
//!
//! Promises: what was replayed, whether that is proven, what changes and for whom, what was left
//! out: in this order, on a screen; every number is the report's. Called by `policy replay`.

use std::fmt::Write as _;
use std::io::Write;

use super::revision;
use crate::cli::policy::PolicyFault;
use crate::cli::print;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::replay::change::Change;
use crate::domain::replay::change::Class;
use crate::domain::replay::change::Counts;
use crate::domain::replay::change::Side;
use crate::domain::replay::report::Lines;
use crate::domain::replay::report::Report;

/// Names of a table that are shown.
const ROWS: usize = 5;
/// Columns that names of a table are given.
const NAME_MAX: usize = 40;
/// Samples of a class that are shown.
const SAMPLES: usize = 2;
/// Policies that had decided, of which there may be many.
const BASELINES: usize = 3;

/// Prints it.
pub(in crate::cli::policy) fn tell(report: &Report, candidate: &str, out: &mut dyn Write) -> Result<(), PolicyFault> {
    head(report, candidate, out)?;
    proof(report, out)?;
    changes(report, out)?;
    skipped(report, out)?;
    writeln!(out, "\ndigest     {}  (whoever activates the candidate approves this)", report.digest())?;
    Ok(())
}

fn head(report: &Report, candidate: &str, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let replay = &report.replay;
    let (strong, plain) = (print::STRONG, print::PLAIN);
    let recorded = number(replay.decisions.recorded);
    writeln!(out, "{strong}replay of {recorded} recorded decisions{plain}, {}", period(report))?;
    writeln!(out, "candidate  {}  {candidate}", revision(&replay.candidate))?;
    for (at, baseline) in replay.recorded.iter().take(BASELINES).enumerate() {
        let name = if at == 0 { "recorded" } else { "" };
        writeln!(
            out,
            "{name:<10} {}  {} of them made again under it",
            revision(&baseline.policy),
            number(baseline.decisions)
        )?;
    }
    let more = replay.recorded.len().saturating_sub(BASELINES);
    if more > 0 {
        writeln!(out, "           and {} more", print::count(more, "policy").replace("policys", "policies"))?;
    }
    Ok(())
}

/// Which requests.
pub(super) fn period(report: &Report) -> String {
    let window = &report.replay.window;
    let from = window.from_ms.map_or("the beginning of the journal".to_owned(), print::time);
    let to = window.to_ms.map_or("its end".to_owned(), print::time);
    let mut words = format!("from {from} to {to}");
    for (name, value) in [("organisation", &window.tenant), ("tool", &window.tool)] {
        if let Some(value) = value {
            // WHY: writing to a `String` cannot fail.
            let _infallible = write!(words, ", only {name} {}", print::plain(value));
        }
    }
    words
}

fn proof(report: &Report, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let replay = &report.replay;
    let failed: u64 = replay.skipped.iter().filter(|line| line.reason.disproves()).map(|line| line.count).sum();
    let replayed = replay.decisions.replayed;
    let colour = if report.proven() { print::GOOD } else { print::BAD };
    let word = if report.proven() { "proven" } else { "NOT PROVEN" };
    writeln!(
        out,
        "\nproof      {colour}{word}{}: {} of {} decisions, made again under their own policy, came out as recorded",
        print::PLAIN,
        number(replayed),
        number(replayed + failed),
    )?;
    if replay.decisions.without_visible > 0 {
        let old = number(replay.decisions.without_visible);
        writeln!(out, "           {old} are from before it was recorded which tools are seen; compared without")?;
    }
    let verified = if report.verified() { "verified" } else { "NOT VERIFIED" };
    for (at, writer) in replay.journal.writers.iter().enumerate() {
        let name = if at == 0 { "journal" } else { "" };
        let (first, last) = (print::plain(&writer.first), print::plain(&writer.last));
        writeln!(out, "{name:<10} {verified}: {first} to {last}, {} records", number(writer.records))?;
    }
    Ok(())
}

fn changes(report: &Report, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let (decisions, changes) = (&report.replay.decisions, &report.replay.changes);
    let (strong, plain) = (print::STRONG, print::PLAIN);
    if decisions.changed == 0 {
        writeln!(out, "\n{strong}changes    none{plain}: the candidate decides all of them the same")?;
        return Ok(());
    }
    let of = format!("{} of {} decisions", number(decisions.changed), number(decisions.replayed));
    writeln!(out, "\n{strong}changes    {of}{plain}")?;
    for class in Class::ALL {
        if let Some(count) = changes.classes.get(&class) {
            writeln!(out, "  {:>9}  {}", number(*count), class.words())?;
        }
    }
    let tables = [
        ("by tenant", &changes.tenants),
        ("by tool", &changes.tools),
        ("by role", &changes.roles),
        ("by user", &changes.users),
    ];
    let names = tables.iter().flat_map(|(_, lines)| lines.rows.iter().take(ROWS)).map(|line| print::plain(&line.name));
    let width = names.map(|name| name.chars().count()).max().unwrap_or_default().min(NAME_MAX);
    writeln!(out)?;
    for (name, lines) in tables {
        table(name, lines, width, out)?;
    }
    for (class, samples) in &changes.samples {
        writeln!(out, "\n{strong}{}{plain}, such as", class.words())?;
        for change in samples.iter().take(SAMPLES) {
            sample(change, out)?;
        }
    }
    Ok(())
}

fn table(name: &str, lines: &Lines, width: usize, out: &mut dyn Write) -> Result<(), PolicyFault> {
    for (at, line) in lines.rows.iter().take(ROWS).enumerate() {
        let name = if at == 0 { name } else { "" };
        let what = print::plain(&line.name);
        writeln!(out, "{name:<10} {what:<width$} {:>7}  {}", number(line.changed), by_class(&line.classes))?;
    }
    let more = lines.more + lines.rows.len().saturating_sub(ROWS) as u64;
    if more > 0 {
        writeln!(out, "{:<10} and {} more", "", number(more))?;
    }
    Ok(())
}

/// `newly denied 20, list has other tools 12`.
pub(super) fn by_class(classes: &Counts) -> String {
    let one = |(class, count): (&Class, &u64)| format!("{} {}", class.words(), number(*count));
    classes.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn sample(change: &Change, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let about = &change.about;
    let who = format!("{} in {}", print::plain(&about.user), print::plain(&about.tenant));
    writeln!(out, "  {}  {who}  {}  {}", print::time(about.at_ms), what(change), turn(change))?;
    for words in details(change) {
        writeln!(out, "      {}", print::wrapped(&words, 6))?;
    }
    writeln!(out, "      decision {}", print::plain(&about.decision))?;
    Ok(())
}

/// What was decided about.
pub(super) fn what(change: &Change) -> String {
    let about = &change.about;
    match about.phase {
        _ if about.tool.is_empty() => "the list of tools".to_owned(),
        Some(Phase::Response) => format!("the answer of {}", print::plain(&about.tool)),
        _ => print::plain(&about.tool),
    }
}

/// `allow → deny, hidden`.
pub(super) fn turn(change: &Change) -> String {
    let (before, after) = (outcome(&change.before), outcome(&change.after));
    if change.about.tool.is_empty() {
        return format!("{} → {} tools", change.before.sees, change.after.sees);
    }
    // A call that got no further than whether its tool may be seen; its arguments were not kept.
    if change.about.phase == Some(Phase::List) && before == after {
        return match change.after.sees {
            0 => "seen → no such tool".to_owned(),
            _ => "no such tool → seen, and then decided by its arguments".to_owned(),
        };
    }
    let sight = match (change.before.sees > 0, change.after.sees > 0) {
        (true, false) => ", hidden",
        (false, true) => ", seen",
        _ => "",
    };
    if before == after { format!("{before} as before{sight}") } else { format!("{before} → {after}{sight}") }
}

/// What the candidate says, and what it said before where that is the difference.
pub(super) fn details(change: &Change) -> Vec<String> {
    let mut words = Vec::new();
    for (sign, names) in [("+", &change.appears), ("-", &change.vanishes)] {
        if change.about.tool.is_empty() && !names.is_empty() {
            words.push(format!("{sign} {}", print::plain(&names.join(", "))));
        }
    }
    let reasons = |side: &Side| -> Vec<String> {
        side.reasons.iter().map(|why| print::plain(&format!("{}: {}", why.code, why.message))).collect()
    };
    let (before, after) = (reasons(&change.before), reasons(&change.after));
    if before != after {
        words.extend(before.iter().filter(|why| !after.contains(why)).map(|why| format!("before: {why}")));
        words.extend(after.into_iter().filter(|why| !before.contains(why)).map(|why| format!("after:  {why}")));
    }
    if change.class == Class::ObligationsChanged {
        for (name, side) in [("before", &change.before), ("after", &change.after)] {
            let text = serde_json::to_string(&side.obligations).unwrap_or_default();
            words.push(format!("{name}: {}", print::plain_json(&text)));
        }
    }
    words
}

fn outcome(side: &Side) -> &'static str {
    match side.outcome {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending",
        Outcome::Deny => "deny",
    }
}

fn skipped(report: &Report, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let decisions = &report.replay.decisions;
    if decisions.skipped == 0 {
        writeln!(out, "\nskipped    none")?;
        return Ok(());
    }
    let (strong, plain) = (print::STRONG, print::PLAIN);
    writeln!(out, "\n{strong}skipped    {} decisions{plain}", number(decisions.skipped))?;
    for line in &report.replay.skipped {
        let mark = if line.explained { String::new() } else { format!("{}unexplained{plain}: ", print::BAD) };
        writeln!(
            out,
            "  {:>9}  {}: {mark}{}",
            number(line.count),
            line.reason.as_str(),
            print::wrapped(&line.words, 13)
        )?;
        for one in line.samples.iter().take(SAMPLES) {
            let about = &one.about;
            let which = if about.decision.is_empty() { &about.record } else { &about.decision };
            let who =
                if about.user.is_empty() { String::new() } else { format!(" of {} in {}", about.user, about.tenant) };
            let words = format!("{which}{who}: {}", one.why);
            writeln!(out, "             {}", print::wrapped(&print::plain(&words), 13))?;
        }
    }
    if decisions.unexplained > 0 {
        writeln!(out, "  a gated activation does not take a report with unexplained ones")?;
    }
    Ok(())
}

/// A count with thousands set apart.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let all = [0, 7, 999, 1_000, 12_345, 1_000_000].map(number);
        assert_eq!(all, ["0", "7", "999", "1,000", "12,345", "1,000,000"]);
    }
}

//! An explanation in words, for a terminal.
//!
//! Promises: one line for each condition and one for each value; whatever comes from outside is
//! escaped first. Never decides what is told. Called by `cli::policy::explain`.

use std::io;
use std::io::Write;

use crate::cli::policy::explain::Seen;
use crate::cli::print;
use crate::cli::print::BAD;
use crate::cli::print::GOOD;
use crate::cli::print::PLAIN;
use crate::cli::print::STRONG;
use crate::cli::print::plain;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::explain::Changes;
use crate::domain::pdp::explain::Explanation;
use crate::domain::pdp::explain::Of;
use crate::domain::pdp::explain::State;
use crate::domain::pdp::explain::Told;
use crate::domain::pdp::explain::Tried;
use crate::domain::pdp::explain::Valued;
use crate::domain::pdp::explain::changes::Change;

/// Characters of a value that is part of a sentence, or told beside what explains it.
const MEMBER_CHARS_MAX: usize = 60;
/// Characters of a value; `--json` has more.
const VALUE_CHARS_MAX: usize = 150;
/// Where values begin beside a condition, if it is short enough.
const VALUES_COLUMN: usize = 46;

/// The outcome, each reason with its rule, and what would have to be different.
pub(super) fn explanation(told: &Explanation, (list, everything): (bool, bool), out: &mut dyn Write) -> io::Result<()> {
    let (colour, outcome) = match told.outcome {
        Outcome::Allow => (GOOD, "allow"),
        Outcome::Pending => (STRONG, "pending: people must agree"),
        Outcome::Deny => (BAD, "deny"),
    };
    writeln!(out, "{colour}{outcome}{PLAIN}")?;
    for note in &told.notes {
        writeln!(out, "note: {}", print::wrapped(&plain(note), 6))?;
    }
    for given in &told.reasons {
        writeln!(out, "\n{STRONG}{}{PLAIN}: {}", given.code, print::wrapped(&plain(&given.message), 2))?;
        if let Some(because) = &given.because {
            rule(because, 2, out)?;
        }
    }
    match told.outcome {
        Outcome::Allow if list => {}
        Outcome::Allow if !everything => {
            writeln!(out, "\n{STRONG}what could have said no, and why it did not{PLAIN}")?;
            quiet(&told.rules, out)?;
        }
        _ if told.rules.is_empty() => {}
        _ => {
            writeln!(out, "\n{STRONG}what it rests on{PLAIN}")?;
            group(&told.rules, 2, out)?;
        }
    }
    told.changes.as_ref().map_or(Ok(()), |changes| differences(changes, out))
}

/// Rules that gave nothing: each with the condition that it stopped at, and what that came from.
fn quiet(rules: &[Told], out: &mut dyn Write) -> io::Result<()> {
    let mut last = "";
    let mut at = 0;
    let rules: Vec<&Told> = rules.iter().filter(|told| !told.again && !told.held).collect();
    while let Some(told) = rules.get(at) {
        if told.rule != last {
            writeln!(out, "  {}", plain(&told.rule))?;
            last = &told.rule;
        }
        let stopped = stopped_at(told);
        let same = |other: &&&Told| {
            let text = |tried: Option<&Tried>| tried.map(|tried| tried.text.clone());
            other.rule == told.rule && other.path == told.path && text(stopped_at(other)) == text(stopped)
        };
        let together = rules.iter().skip(at).take_while(same).count();
        let lines: Vec<String> = rules.iter().skip(at).take(together).map(|told| told.line.to_string()).collect();
        writeln!(out, "    {}:{}", plain(&told.path), print::wrapped(&lines.join(", "), 8))?;
        match stopped {
            Some(stopped) => writeln!(out, "      {}", way(stopped))?,
            None => writeln!(out, "      {}", plain(&told.note))?,
        }
        at += together.max(1);
    }
    Ok(())
}

/// A condition that failed, and the one at the end of the way that made it fail.
fn way(stopped: &Tried) -> String {
    let root = root_of(stopped);
    let from = if root == stopped { String::new() } else { format!(" ← {}", plain(&root.text)) };
    let value = root.values.iter().find(|one| says_more(root, &one.what, &one.value));
    let value = value.map(|value| format!("  {}", valued(value))).unwrap_or_default();
    format!("{BAD}✗{PLAIN} {}{from}{value}", plain(&stopped.text))
}

fn stopped_at(told: &Told) -> Option<&Tried> {
    told.conditions.iter().find(|tried| matches!(tried.state, State::Failed | State::Error))
}

/// The condition at the end of the way: the one that failed and so made this one fail.
fn root_of(tried: &Tried) -> &Tried {
    let below = tried.because.iter().find(|told| !told.again && !told.held);
    below.and_then(stopped_at).map_or(tried, root_of)
}

/// Rules of one name under one heading.
pub(super) fn group(rules: &[Told], indent: usize, out: &mut dyn Write) -> io::Result<()> {
    let pad = " ".repeat(indent);
    let mut last: Option<(&str, &str)> = None;
    for told in rules {
        let first = last != Some((&told.rule, &told.about));
        last = Some((&told.rule, &told.about));
        if told.again {
            writeln!(out, "{pad}{}: as above", heading(told))?;
        } else if told.held {
            rule(told, indent, out)?;
        } else {
            if first {
                writeln!(out, "{pad}{}", heading(told))?;
            }
            writeln!(out, "{pad}  {}:{}", plain(&told.path), told.line)?;
            conditions(told, indent + 4, out)?;
        }
    }
    Ok(())
}

fn heading(told: &Told) -> String {
    let name = plain(&told.rule);
    match (told.held, told.of == Of::Member && told.about.chars().count() <= MEMBER_CHARS_MAX) {
        (false, true) => format!("{name} has no {}", plain(&told.about)),
        (false, false) if told.of == Of::Set => format!("{name} is empty"),
        (false, false) => format!("{name} does not hold"),
        (true, _) => format!("{name} holds"),
    }
}

/// A rule with its name and place.
fn rule(told: &Told, indent: usize, out: &mut dyn Write) -> io::Result<()> {
    let gave = told.gave.as_ref().filter(|_| told.of != Of::Member);
    let gave = gave.map(|gave| format!(" gives {}", plain(gave))).unwrap_or_default();
    let line = format!("{} ({}:{}){gave}", plain(&told.rule), plain(&told.path), told.line);
    writeln!(out, "{}{}", " ".repeat(indent), print::folded_within(&line, indent + 4, print::WIDTH))?;
    conditions(told, indent + 2, out)
}

fn conditions(told: &Told, indent: usize, out: &mut dyn Write) -> io::Result<()> {
    for tried in told.conditions.iter().filter(|tried| tried.state != State::NotReached) {
        condition(tried, indent, out)?;
    }
    if !told.note.is_empty() {
        writeln!(out, "{}{}", " ".repeat(indent), plain(&told.note))?;
    }
    Ok(())
}

/// One condition: whether it holds, its text, and what it looked at.
pub(super) fn condition(tried: &Tried, indent: usize, out: &mut dyn Write) -> io::Result<()> {
    let pad = " ".repeat(indent);
    let (colour, mark) = match tried.state {
        State::Held => (GOOD, "✓"),
        State::Failed | State::Error => (BAD, "✗"),
        State::NotReached => ("", "·"),
    };
    let text = plain(&tried.text);
    let values: Vec<String> =
        tried.values.iter().filter(|one| says_more(tried, &one.what, &one.value)).map(valued).collect();
    write!(out, "{pad}{colour}{mark}{PLAIN} {text}")?;
    let used = indent + 2 + text.chars().count();
    match values.as_slice() {
        [one] if used.max(VALUES_COLUMN) + 2 + one.chars().count() <= print::WIDTH => {
            writeln!(out, "{}  {one}", " ".repeat(VALUES_COLUMN.saturating_sub(used)))?;
        }
        values => {
            writeln!(out)?;
            for value in values {
                writeln!(out, "{pad}    {}", print::folded_within(value, indent + 6, print::WIDTH))?;
            }
        }
    }
    if tried.more > 0 {
        writeln!(out, "{pad}    and {} more", tried.more)?;
    }
    if let Some(error) = &tried.error {
        writeln!(out, "{pad}    {BAD}error:{PLAIN} {}", plain(error))?;
    }
    group(&tried.because, indent + 2, out)
}

fn valued(one: &Valued) -> String {
    let value = plain(&one.value);
    let mut letters = value.chars();
    let kept: String = letters.by_ref().take(VALUE_CHARS_MAX).collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("{} = {kept}{more}", plain(&one.what))
}

/// Whether a value says more than the condition, its mark and what is told below it.
fn says_more(tried: &Tried, what: &str, value: &str) -> bool {
    let said = value == "true" && tried.text == what
        || tried.state == State::Held && tried.text == format!("{what} == {value}")
        || !tried.because.is_empty() && value.chars().count() > MEMBER_CHARS_MAX
        || value == "undefined"
            && tried.because.iter().any(|told| what.split(['(', '.', '[']).next() == Some(&told.rule));
    !said
}

fn differences(changes: &Changes, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    if changes.allow.is_empty() && changes.pending.is_empty() {
        let tried = print::count(changes.tried, "change");
        return writeln!(out, "{STRONG}what would change it{PLAIN}: none of {tried} that were tried");
    }
    for (heading, all) in [("would be allowed", &changes.allow), ("would wait for people", &changes.pending)] {
        if !all.is_empty() {
            writeln!(out, "{STRONG}{heading}{PLAIN}")?;
            for line in lines(all) {
                writeln!(out, "  {}", print::wrapped(&plain(&line), 6))?;
            }
        }
    }
    Ok(())
}

/// Changes of one kind on one line.
fn lines(all: &[Vec<Change>]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut roles, mut permissions, mut tenants, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for changes in all {
        match changes.as_slice() {
            [Change::Role { role }] => roles.push(role.clone()),
            [Change::Permission { permission }] => permissions.push(permission.clone()),
            [Change::Tenant { tenant }] => tenants.push(tenant.clone()),
            [change @ Change::Data { .. }] => data.push(words(change)),
            several => lines.push(several.iter().map(words).collect::<Vec<_>>().join(" and ")),
        }
    }
    for (what, names) in [("with role", roles), ("with permission", permissions), ("in tenant", tenants)] {
        if !names.is_empty() {
            lines.push(format!("{what} {}", names.join(" or ")));
        }
    }
    lines.extend(data);
    lines
}

fn words(change: &Change) -> String {
    match change {
        Change::Approval { count, roles, teams, users } => {
            let mut who = Vec::new();
            for (of, names) in [("role", roles), ("team", teams), ("user", users)] {
                if !names.is_empty() {
                    who.push(format!("{of} {}", names.join(" or ")));
                }
            }
            let people =
                if *count == 1 { "1 other person agrees".to_owned() } else { format!("{count} other people agree") };
            format!("once {people}, of {}", who.join(", or of "))
        }
        Change::DryRun => "as a dry run".to_owned(),
        Change::Arguments { pointers, value } => format!("with a value such as {value} at {}", pointers.join(" and ")),
        Change::Earlier { tool } => format!("after a call of {tool} in this workflow, with these arguments"),
        Change::Role { role } => format!("with role {role}"),
        Change::Permission { permission } => format!("with permission {permission}"),
        Change::Team { team: Some(team), role } => format!("as {role} of team {team}"),
        Change::Team { team: None, role } => format!("as {role} of any team"),
        Change::Data { reference, .. } => format!("with {reference} = true"),
        Change::Tenant { tenant } => format!("in tenant {tenant}"),
    }
}

/// What a list makes of each tool.
pub(super) fn tools(list: &[Seen], out: &mut dyn Write) -> io::Result<()> {
    let width = list.iter().map(|tool| tool.tool.chars().count()).max().unwrap_or_default();
    writeln!(out, "\n{STRONG}tools{PLAIN}")?;
    for tool in list {
        let (colour, mark) = if tool.seen { (GOOD, "✓") } else { (BAD, "✗") };
        let name = plain(&tool.tool);
        let reasons = if tool.seen { String::new() } else { plain(&tool.reasons.join(", ")) };
        writeln!(out, "  {colour}{mark}{PLAIN} {}", format!("{name:width$}  {reasons}").trim_end())?;
    }
    Ok(())
}

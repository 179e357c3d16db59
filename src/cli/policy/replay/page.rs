//! A replay report as a page of its own.
//!
//! Promises: one file that fetches nothing; every text from a record or a policy is escaped, and
//! what would hide or reorder text is shown as what it is; readable on a phone, by day and by night,
//! and on paper. Never runs a script. Called by `policy replay`.

use maud::DOCTYPE;
use maud::Markup;
use maud::PreEscaped;
use maud::html;

use super::revision;
use super::words;
use super::words::number;
use crate::cli::print;
use crate::domain::replay::change::Change;
use crate::domain::replay::change::Class;
use crate::domain::replay::report::Lines;
use crate::domain::replay::report::Report;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1a1d21;--dim:#5c6570;--line:#d5dae0;--paper:#fff;--soft:#f3f5f7;--bad:#b3261e;--good:#1a7f37}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa4af;--line:#363c44;--paper:#15181c;--soft:#1e2329;--bad:#ff8a80;--good:#6fdd8b}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:64rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}th{white-space:nowrap}
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}h3{font-size:1rem;margin:1.2rem 0 .3rem}
code{font:.9em ui-monospace,monospace}.dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0}dt{color:var(--dim)}dd{margin:0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
article{background:var(--soft);border-radius:.4rem;padding:.6rem .8rem;margin:.5rem 0}article p{margin:.2rem 0}
@media(max-width:30rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}}
@media print{article{break-inside:avoid}}";

/// The page.
pub(super) fn page(report: &Report, candidate: &str) -> String {
    let replay = &report.replay;
    let title = format!("Replay of {} recorded decisions", number(replay.decisions.recorded));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    p.dim { (words::period(report)) }
                    (about(report, candidate))
                    (changes(report))
                    (skipped(report))
                    h2 { "Where it comes from" }
                    (journal(report))
                }
            }
        }
    }
    .into_string()
}

fn about(report: &Report, candidate: &str) -> Markup {
    let replay = &report.replay;
    let failed: u64 = replay.skipped.iter().filter(|line| line.reason.disproves()).map(|line| line.count).sum();
    html! {
        dl {
            dt { "Candidate" } dd { (print::plain(candidate)) " " code { (revision(&replay.candidate)) } }
            dt { "Recorded" }
            dd { @for baseline in &replay.recorded {
                div { code { (revision(&baseline.policy)) } ": " (number(baseline.decisions)) " of them made again under it" }
            } }
            dt { "Proof" }
            dd {
                @if report.proven() { span.good { "proven" } } @else { span.bad { "not proven" } }
                ": " (number(replay.decisions.replayed)) " of " (number(replay.decisions.replayed + failed))
                " decisions, made again under their own policy, came out as recorded"
                @if replay.decisions.without_visible > 0 {
                    "; " (number(replay.decisions.without_visible)) " were compared without which tools are seen, which older records lack"
                }
            }
            dt { "Digest" } dd { code { (report.digest()) } }
        }
    }
}

fn changes(report: &Report) -> Markup {
    let (decisions, changes) = (&report.replay.decisions, &report.replay.changes);
    html! {
        h2 { "What would change" }
        @if decisions.changed == 0 {
            p { "Nothing: the candidate decides all " (number(decisions.replayed)) " of them the same." }
        } @else {
            p { (number(decisions.changed)) " of " (number(decisions.replayed)) " decisions. Each counts once, as its gravest change." }
            div.scroll { table {
                @for class in Class::ALL {
                    @if let Some(count) = changes.classes.get(&class) {
                        tr { td.n { (number(*count)) } td { (class.words()) } }
                    }
                }
            } }
            (table("By organisation", true, &changes.tenants))
            (table("By tool", false, &changes.tools))
            (table("By role", true, &changes.roles))
            (table("By user", true, &changes.users))
            (table("By phase", true, &changes.phases))
            @for (class, samples) in &changes.samples {
                h3 { (class.words()) ", such as" }
                @for change in samples { (sample(change)) }
            }
        }
    }
}

/// `whole`: whether the decisions that were replayed are those that could have changed. A tool is named by
/// changes of lists too, which are decisions about no tool.
fn table(name: &str, whole: bool, lines: &Lines) -> Markup {
    html! {
        h3 { (name) }
        div.scroll { table {
            tr { th { "Name" } th.n { "Changed" } @if whole { th.n { "Of" } } th { "How" } }
            @for line in &lines.rows {
                tr {
                    td { (print::plain(&line.name)) }
                    td.n { (number(line.changed)) }
                    @if whole { td.n { (number(line.replayed)) } }
                    td { (words::by_class(&line.classes)) }
                }
            }
        } }
        @if lines.more > 0 { p.dim { "and " (number(lines.more)) " more" } }
    }
}

fn sample(change: &Change) -> Markup {
    let about = &change.about;
    html! {
        article {
            p {
                strong { (words::turn(change)) } " "
                (words::what(change))
            }
            p { (print::plain(&about.user)) " in " (print::plain(&about.tenant)) span.dim { ", " (print::time(about.at_ms)) } }
            @for line in words::details(change) { p { (line) } }
            p.dim { "decision " code { (print::plain(&about.decision)) } " in record " code { (print::plain(&about.record)) } }
        }
    }
}

fn skipped(report: &Report) -> Markup {
    html! {
        h2 { "What was not replayed" }
        @if report.replay.skipped.is_empty() { p { "Everything that was recorded was replayed." } }
        @for line in &report.replay.skipped {
            h3 {
                (number(line.count)) " " code { (line.reason.as_str()) }
                @if !line.explained { " " span.bad { "unexplained" } }
            }
            p { (line.words) "." }
            @for one in &line.samples {
                article {
                    p { (print::plain(&one.about.user)) " in " (print::plain(&one.about.tenant)) ": " (print::plain(&one.why)) }
                    p.dim { "decision " code { (print::plain(&one.about.decision)) } " in record " code { (print::plain(&one.about.record)) } }
                }
            }
        }
    }
}

fn journal(report: &Report) -> Markup {
    html! {
        p {
            @if report.verified() { "Every record was verified as it was read." }
            @else { span.bad { "The journal was not verified." } }
        }
        div.scroll { table {
            tr { th { "Writer" } th { "From" } th { "To" } th.n { "Records" } th { "Head" } }
            @for writer in &report.replay.journal.writers {
                tr {
                    td { (print::plain(&writer.writer)) }
                    td { (print::plain(&writer.first)) }
                    td { (print::plain(&writer.last)) }
                    td.n { (number(writer.records)) }
                    td { code { (writer.head) } }
                }
            }
        } }
        p.dim { "Made " (print::time(report.made.at_ms)) " by loopgate " (report.replay.loopgate) ", in " (number(report.made.took_ms)) " ms." }
    }
}

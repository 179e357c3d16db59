//! Coverage as a page: every file, line by line.
//!
//! Promises: one file that fetches nothing and runs no script; every text of a policy is escaped;
//! readable by day and by night, on a phone and on paper, and without telling colours apart.
//! Called by `policy test`.

use maud::DOCTYPE;
use maud::Markup;
use maud::PreEscaped;
use maud::html;

use crate::cli::print::plain;
use crate::domain::pdp::coverage::Coverage;
use crate::domain::pdp::coverage::Lines;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1a1d21;--dim:#5c6570;--line:#d5dae0;--paper:#fff;--yes:#e3f4e6;--no:#fde3e1;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#9aa4af;--line:#363c44;--paper:#15181c;--yes:#173322;--no:#4a1f1d;--bad:#ff8a80}}
body{margin:0 auto;padding:1rem;max-width:72rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .4rem;overflow-wrap:anywhere}a{color:inherit}
table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid var(--line)}td.n{text-align:right}
.bad{color:var(--bad);font-weight:600}
.code{overflow-x:auto;border:1px solid var(--line);border-radius:.3rem}.code table{font:13px/1.45 ui-monospace,monospace;width:100%}
.code td{border:0;padding:0 .6rem;white-space:pre;tab-size:4}.code td.l{color:var(--dim);text-align:right;user-select:none}
tr.yes{background:var(--yes)}tr.no{background:var(--no)}tr.no td.l{color:var(--bad);font-weight:600}
@media print{.code{overflow:visible}.code td{white-space:pre-wrap}}";

/// The page.
pub(super) fn page(coverage: &Coverage) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Policy coverage " (percent(coverage.percent())) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Policy coverage: " (percent(coverage.percent())) }
                    (summary(coverage))
                    @for (number, (path, lines)) in coverage.files().enumerate() { (file(number, path, lines)) }
                }
            }
        }
    }
    .into_string()
}

fn percent(number: f64) -> String {
    format!("{number:.2} %")
}

fn summary(coverage: &Coverage) -> Markup {
    html! {
        table {
            thead { tr { th { "File" } th { "Covered" } th { "Lines not covered" } } }
            tbody {
                @for (number, (path, lines)) in coverage.files().enumerate() {
                    tr {
                        td { a href=(format!("#f{number}")) { (plain(path)) } }
                        td.n { (percent(lines.percent())) }
                        td.n.bad[!lines.not_covered.is_empty()] { (lines.not_covered.len()) }
                    }
                }
            }
        }
    }
}

fn file(number: usize, path: &str, lines: &Lines) -> Markup {
    html! {
        h2 id=(format!("f{number}")) { (plain(path)) " " (percent(lines.percent())) }
        div.code {
            table {
                @for (line, text) in (1_u32..).zip(lines.code.lines()) {
                    @let (class, mark, said) = match (lines.covered.contains(&line), lines.not_covered.contains(&line)) {
                        (true, _) => ("yes", "", "covered"),
                        (false, true) => ("no", "✗ ", "not covered"),
                        (false, false) => ("", "", ""),
                    };
                    tr class=(class) title=(said) { td.l { (mark) (line) } td { (code(text)) } }
                }
            }
        }
    }
}

/// A line of code with its tabs, and nothing in it that hides or reorders.
fn code(text: &str) -> String {
    text.split('\t').map(plain).collect::<Vec<_>>().join("\t")
}

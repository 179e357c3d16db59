//! An approval for people: judged in ten seconds, on eighty columns.
//!
//! Promises: what would happen comes first, and what the gateway says stands apart from what the
//! requester wrote; every argument is shown, exactly; what others wrote has nothing hidden in it
//! left, and cannot break out of its lines. Never shortens what is to be approved.

use std::fmt::Write;

use serde_json::Map;
use serde_json::Value;

use crate::cli::print;
use crate::cli::print::block;
use crate::cli::print::folded;
use crate::cli::print::plain;

/// Where values begin.
const INDENT: usize = 11;
/// Characters of a member that may share its line with others.
const BRIEF_CHARS: usize = 48;
/// Characters of a digest that are shown; enough to name it.
const DIGEST_CHARS: usize = 16;
/// What an approval is about, in LoopIQ's own words.
const ABOUT: [&str; 5] = ["release", "certification", "team", "owner", "blockers"];

/// The whole approval, as it stands at `now_s`.
pub(super) fn card(approval: &Value, now_s: i64) -> String {
    let mut card = format!("{}{}{}\n", print::STRONG, folded(&plain(text(approval, "summary")), 0), print::PLAIN);
    push(&mut card, &standing(approval, now_s));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            push(&mut card, &format!("{label:<INDENT$}{}", folded(value, INDENT)));
        }
    };
    line("asked by", &asker(approval));
    line("about", &about(approval));
    for reason in list(approval, "reasons") {
        line("why", &plain(&format!("{}: {}", text(reason, "code"), text(reason, "message"))));
    }
    line("tool", &plain(text(approval, "tool")));
    for ballot in list(approval, "ballots") {
        line("vote", &vote(ballot));
    }
    card.push_str(&effect(approval));
    push(&mut card, &written(approval));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            push(&mut card, &format!("{label:<INDENT$}{}", folded(&plain(value), INDENT)));
        }
    };
    line("approval", text(approval, "approvalId"));
    line("request", text(approval, "requestId"));
    line("trace", text(approval, "traceId"));
    line("key", text(approval, "idempotencyKey"));
    line("execution", text(approval, "executionId"));
    line("version", text(approval, "recordVersion"));
    line("digest", &digest(approval));
    if approval.pointer("/may/vote").and_then(Value::as_bool) == Some(true) {
        let id = plain(text(approval, "approvalId"));
        push(
            &mut card,
            &format!(
                "\nto agree to exactly this:\n  loopgate approvals approve {id} \\\n    --digest {}",
                digest(approval)
            ),
        );
    }
    card
}

/// An approval as one of many: two lines.
pub(super) fn line(approval: &Value) -> String {
    let head = format!(
        "{}{}{}  {}  {} of {}  {}",
        print::STRONG,
        plain(text(approval, "approvalId")),
        print::PLAIN,
        plain(approval.pointer("/ended/ground").and_then(Value::as_str).unwrap_or_else(|| text(approval, "state"))),
        number(approval, "/approvers/agreed"),
        number(approval, "/approvers/count"),
        match text(approval, "state") {
            "pending" => format!("until {}", plain(text(approval, "approveBy"))),
            "approved" => format!("until {}", plain(text(approval, "executeBy"))),
            _ => String::new(),
        },
    );
    let about = about(approval);
    let about = if about.is_empty() { String::new() } else { format!("; {about}") };
    format!("{}\n    {}", head.trim_end(), folded(&format!("{}{about}", plain(text(approval, "summary"))), 4))
}

/// How it stands: decided or not, by whom it may be, until when.
pub(super) fn standing(approval: &Value, now_s: i64) -> String {
    let state = text(approval, "state");
    let agreed = format!("{} of {} agree", number(approval, "/approvers/agreed"), number(approval, "/approvers/count"));
    let until = |name: &str| {
        let moment = text(approval, name);
        moment.parse::<jiff::Timestamp>().map_or_else(|_| plain(moment), |at| within(at.as_second() - now_s, moment))
    };
    let words = match state {
        "pending" => {
            format!("pending: {agreed}, needs {}; to be decided {}", text(approval, "needs"), until("approveBy"))
        }
        "approved" if approval.get("executionId").is_some_and(Value::is_string) => {
            format!("approved: {agreed}; it is being carried out")
        }
        "approved" => format!("approved: {agreed}; to be used {}", until("executeBy")),
        "rejected" => {
            let ended =
                |name: &str| approval.pointer(&format!("/ended/{name}")).and_then(Value::as_str).unwrap_or_default();
            let by = match ended("by/user") {
                "" => String::new(),
                user => format!(" by {user}"),
            };
            let reason = if ended("reason").is_empty() { String::new() } else { format!(": {}", ended("reason")) };
            format!("{}{by}{reason}", ended("ground"))
        }
        other => format!("{other}: {agreed}"),
    };
    folded(&plain(&words), 0)
}

fn within(seconds: i64, moment: &str) -> String {
    match seconds {
        ..0 => format!("by {}, which has passed", plain(moment)),
        0..120 => format!("by {}, in {seconds} s", plain(moment)),
        120..7200 => format!("by {}, in {} min", plain(moment), seconds / 60),
        _ => format!("by {}, in {} h", plain(moment), seconds / 3600),
    }
}

fn asker(approval: &Value) -> String {
    let mut words = format!("{} in {}", text(approval, "requester"), text(approval, "tenant"));
    for (label, name) in [("client", "client"), ("workflow", "workflow")] {
        if !text(approval, name).is_empty() {
            // WHY: writing to a `String` cannot fail.
            let _infallible = write!(words, ", {label} {}", text(approval, name));
        }
    }
    plain(&words)
}

fn about(approval: &Value) -> String {
    let named = |name: &&str| approval.get(*name).map(|value| format!("{name} {}", short(value)));
    ABOUT.iter().filter_map(named).collect::<Vec<_>>().join(", ")
}

fn vote(ballot: &Value) -> String {
    let user = ballot.pointer("/voter/user").and_then(Value::as_str).unwrap_or_default();
    let reason = text(ballot, "reason");
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    plain(&format!("{} by {user} at {}{reason}", text(ballot, "verdict"), text(ballot, "at")))
}

/// What would happen, as creates and updates where it is told so.
fn effect(approval: &Value) -> String {
    let request = approval.get("request").unwrap_or(&Value::Null);
    let route = plain(&format!("{} {}", text(request, "method"), text(request, "path")));
    let preview = approval.get("preview").unwrap_or(&Value::Null);
    let changes = |name: &str| preview.pointer(&format!("/preview/{name}")).and_then(Value::as_array);
    let told = changes("creates").is_some() || changes("updates").is_some();
    let mut out = String::new();
    match (text(approval, "previewBy"), told) {
        ("backend", true) => {
            push(&mut out, "\nwhat will happen, as LoopIQ's own dry run says");
            changes("creates").into_iter().flatten().for_each(|one| push(&mut out, &created(one, approval)));
            for one in changes("updates").into_iter().flatten() {
                push(
                    &mut out,
                    &format!("  ~ {}", folded(&plain(&format!("{} {}", text(one, "kind"), text(one, "id"))), 4)),
                );
                for change in list(one, "changes") {
                    let value = |name: &str| change.get(name).map(short).unwrap_or_default();
                    let words = format!("{}: {} → {}", plain(text(change, "field")), value("from"), value("to"));
                    push(&mut out, &format!("      {}", folded(&words, 8)));
                }
            }
        }
        ("backend", false) => {
            push(&mut out, "\nwhat will happen, as LoopIQ's own dry run says");
            push(&mut out, &block(preview));
        }
        _ => push(&mut out, "\nwhat will happen is not known beforehand: only the exact request is"),
    }
    push(&mut out, &format!("\nthe request\n  {}", folded(&route, 4)));
    let body = request.get("body").unwrap_or(&Value::Null);
    if !body.is_null() && !within_arguments(body, approval) {
        push(&mut out, &block(body));
    }
    out
}

/// A record that is to be created: its title first, its longer texts last, each on lines of their own.
fn created(one: &Value, approval: &Value) -> String {
    let record = one.get("record").and_then(Value::as_object).cloned().unwrap_or_default();
    let title = record.get("title").map(|title| format!(": {}", short(title))).unwrap_or_default();
    let head = format!("{} {}{title}", plain(text(one, "kind")), plain(text(one, "ref")));
    // WHY: they stand at the head of the card already, when they are the same.
    let told = |name: &str, value: &Value| match name {
        "title" => true,
        "tenant" => value.as_str() == Some(text(approval, "tenant")),
        "createdBy" => value.as_str() == Some(text(approval, "requester")),
        _ => value.is_null(),
    };
    let members = record.iter().filter(|(name, value)| !told(name, value));
    let (long, brief): (Vec<String>, Vec<String>) = members
        .map(|(name, value)| format!("{} {}", plain(name), short(value)))
        .partition(|member| member.chars().count() > BRIEF_CHARS);
    let mut lines = vec![format!("  + {}", folded(&head, 4))];
    let brief = Some(brief.join(", ")).filter(|brief| !brief.is_empty());
    lines.extend(brief.into_iter().chain(long).map(|words| format!("      {}", folded(&words, 8))));
    lines.join("\n")
}

/// Whether a body says nothing that the arguments do not say.
fn within_arguments(body: &Value, approval: &Value) -> bool {
    let arguments = approval.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default();
    let same = |members: &Map<String, Value>| members.iter().all(|(name, value)| arguments.get(name) == Some(value));
    body.as_object().is_some_and(same)
}

/// What the requester wrote, exactly.
fn written(approval: &Value) -> String {
    let arguments = approval.get("arguments").unwrap_or(&Value::Null);
    format!("\nthe arguments, exactly as they were sent\n{}\n", block(arguments))
}

/// A value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => print::plain_json(&other.to_string()),
    }
}

fn digest(approval: &Value) -> String {
    text(approval, "digest").chars().filter(char::is_ascii_hexdigit).take(DIGEST_CHARS).collect()
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An approval as the operators' door gives it.
    fn approval() -> Value {
        json!({
            "approvalId": "apr_0197", "state": "pending", "digest": "0123456789abcdef".repeat(4),
            "summary": "`loopiq_create_remediation_work_package` for `ada` in org_gcn: creates 2, updates 1",
            "tool": "loopiq_create_remediation_work_package", "tenant": "org_gcn", "requester": "ada",
            "client": "agent", "workflow": "w-1",
            "approvers": {"count": 2, "agreed": 1}, "needs": "2 of: role certification_approver",
            "approveBy": "1970-01-01T01:00:00Z", "release": "backend-v1.0-GCN", "team": "payments",
            "reasons": [{"code": "approval_required", "message": "a work package changes a release"}],
            "ballots": [{"voter": {"user": "otto"}, "verdict": "approve", "reason": "fine", "at": "1970-01-01T00:10:00Z"}],
            "previewBy": "backend",
            "preview": {"dryRun": true, "preview": {
                "creates": [{"kind": "work_package", "ref": "$1", "record": {
                    "title": "Renew evidence", "owner": null, "tenant": "org_gcn", "createdBy": "ada", "status": "open",
                    "description": "Until the controls that it rests on are fresh again, and then some.",
                }}],
                "updates": [{"kind": "release", "id": "rel-1", "changes": [{"field": "status", "from": "open", "to": "held"}]}],
            }},
            "request": {"method": "POST", "path": "/api/v1/x", "body": {"title": "Renew evidence"}},
            "arguments": {"release": "backend-v1.0-GCN", "title": "Renew evidence"},
            "requestId": "r-1", "traceId": "t-1", "may": {"vote": true, "revoke": true},
        })
    }

    fn bare(card: &str) -> String {
        card.replace(print::STRONG, "").replace(print::PLAIN, "")
    }

    #[test]
    fn a_card_says_what_will_happen_who_asks_why_until_when_and_how_to_agree_to_exactly_this() {
        let card = bare(&card(&approval(), 600));
        let mut last = 0;
        for part in [
            "for `ada` in org_gcn: creates 2,\nupdates 1\n",
            "pending: 1 of 2 agree, needs 2 of: role certification_approver; to be decided",
            "in 50 min",
            "asked by   ada in org_gcn, client agent, workflow w-1\n",
            "about      release backend-v1.0-GCN, team payments\n",
            "why        approval_required: a work package changes a release\n",
            "vote       approve by otto at 1970-01-01T00:10:00Z: fine\n",
            "  + work_package $1: Renew evidence\n      status open\n      description Until the controls ",
            "  ~ release rel-1\n      status: open → held\n",
            "the request\n  POST /api/v1/x\n",
            "  {\"release\":\"backend-v1.0-GCN\",\"title\":\"Renew evidence\"}\n",
            "digest     0123456789abcdef\n",
            "loopgate approvals approve apr_0197 \\\n    --digest 0123456789abcdef\n",
        ] {
            let at = card.get(last..).and_then(|rest| rest.find(part)).unwrap_or_else(|| panic!("{part}\n---\n{card}"));
            last += at;
        }
    }

    #[test]
    fn nothing_that_a_requester_writes_hides_reorders_or_leaves_its_line_or_the_eighty_columns() {
        let evil = format!("good\nstate: approved\r\u{1b}[2J\u{202e}txt\u{200b}{}", "x".repeat(500));
        let mut approval = approval();
        approval["arguments"] = json!({"title": evil, &evil: 1});
        approval["workflow"] = evil.clone().into();
        approval["preview"]["preview"]["creates"][0]["record"] = json!({"title": evil, &evil: [evil]});
        approval["reasons"][0]["message"] = evil.clone().into();
        approval["ballots"][0]["reason"] = evil.clone().into();
        approval["request"]["body"] = json!({"title": evil, "more": true});
        approval["release"] = evil.into();
        for shown in [bare(&card(&approval, 0)), bare(&line(&approval)), standing(&approval, 0)] {
            assert!(!shown.contains(|c: char| c != '\n' && crate::domain::catalog::text::is_hidden(c)), "{shown:?}");
            assert!(!shown.contains("\nstate: approved"), "{shown}");
            for line in shown.lines() {
                assert!(line.chars().count() <= print::NARROW, "{} columns: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn a_body_that_says_more_than_the_arguments_is_shown_too() {
        let mut approval = approval();
        assert!(!card(&approval, 0).contains("\"notify\""));
        approval["request"]["body"] = json!({"title": "Renew evidence", "notify": "all"});
        assert!(card(&approval, 0).contains("\"notify\":\"all\""));
    }

    #[test]
    fn what_is_not_known_beforehand_is_said_to_be_so() {
        let mut approval = approval();
        approval["previewBy"] = "gateway".into();
        approval["preview"] = Value::Null;
        assert!(card(&approval, 0).contains("what will happen is not known beforehand"));
        approval["previewBy"] = "backend".into();
        approval["preview"] = json!({"willClose": ["WI-1"]});
        assert!(card(&approval, 0).contains("\"willClose\":["), "a preview of another form is shown as it is");
    }

    #[test]
    fn each_state_is_told_in_its_own_words() {
        let mut approval = approval();
        for (state, more, expected) in [
            ("pending", json!({}), "to be decided by 1970-01-01T01:00:00Z, in 60 s"),
            ("approved", json!({"executeBy": "1970-01-01T00:50:00Z"}), "which has passed"),
            ("approved", json!({"executionId": "x"}), "it is being carried out"),
            (
                "rejected",
                json!({"ended": {"ground": "revoked", "by": {"user": "tess"}, "reason": "not today"}}),
                "revoked by tess: not today",
            ),
            ("executed", json!({}), "executed: 1 of 2 agree"),
        ] {
            approval["state"] = state.into();
            approval.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let words = standing(&approval, 3540).replace('\n', " ");
            assert!(words.contains(expected), "{words}");
        }
    }
}

package loopiq.gateway_test

import data.loopiq.gateway.decision

as_of(time) := dry(object.union(plan, {"evidenceAsOf": time}))

test_fresh_evidence_carries_a_decision if {
	every time in ["2026-09-21T14:13:20Z", "2026-09-20T14:13:20Z", "2026-09-21T16:13:20.5+02:00", "2026-09-21T14:14:20Z"] {
		d := decision with input as as_of(time)
		d.allow
	}
}

test_evidence_that_is_old_or_from_the_future_does_not if {
	every time in ["2026-09-20T14:13:19Z", "2020-01-01T00:00:00Z", "2026-09-21T14:14:21Z", "2027-01-01T00:00:00Z"] {
		d := decision with input as as_of(time)
		codes(d.reasons) == {"evidence_stale"}
	}
}

test_a_time_that_is_none_is_stale if {
	every time in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-09-21", "2026-09-21T25:00:00Z", 1790000000, null, ["x"]] {
		d := decision with input as as_of(time)
		codes(d.reasons) == {"evidence_stale"}
	}
}

test_a_day_that_no_calendar_has_is_stale if {
	every time in ["2026-02-30T00:00:00Z", "2026-02-29T00:00:00Z", "2026-09-31T00:00:00Z", "2026-06-31T00:00:00Z"] {
		d := decision with input as as_of(time)
		codes(d.reasons) == {"evidence_stale"}
	}
}

test_evidence_without_a_time_is_stale if {
	d := decision with input as dry(object.remove(plan, ["evidenceAsOf"]))
	codes(d.reasons) == {"evidence_stale"}
}

test_evidence_whose_age_loopiq_tells_is_fresh if {
	d := decision with input as as_of("last_refresh")
	d.allow
}

test_no_other_word_stands_for_a_time if {
	every word in ["Last_Refresh", "last_refresh ", "now", "latest"] {
		d := decision with input as as_of(word)
		codes(d.reasons) == {"evidence_stale"}
	}
}

test_without_the_word_only_times_count if {
	table := object.remove(data.evidence, ["told_by_loopiq"])
	d := decision with input as as_of("last_refresh") with data.evidence as table
	codes(d.reasons) == {"evidence_stale"}
}

test_inside_a_workflow_the_word_does_not_stand_for_reading if {
	told := {"arguments": object.union(plan, {"evidenceAsOf": "last_refresh"})}
	d := decision with input as object.union(in_workflow([]), told)
	codes(d.reasons) == {"evidence_not_read"}
}

test_other_tools_need_no_time if {
	d := decision with input as call(ben, create, whole)
	d.allow
}

graph := "loopiq_get_release_certification_evidence_graph"

in_workflow(facts) := object.union(dry(plan), {
	"facts": facts,
	"context": {"workflow": "wf-1", "chain": [], "now_ms": 1790000000000, "now": "2026-09-21T14:13:20Z"},
})

read_of(release, ok) := {"tool": graph, "arguments": {"release": release}, "record_ids": [], "at_ms": 1789999990000, "ok": ok}

test_inside_a_workflow_evidence_is_read_first if {
	d := decision with input as in_workflow([])
	codes(d.reasons) == {"evidence_not_read"}
}

test_evidence_that_was_read_is_read if {
	d := decision with input as in_workflow([read_of("r", true)])
	d.allow
}

test_reading_another_release_does_not_count if {
	d := decision with input as in_workflow([read_of("other", true)])
	codes(d.reasons) == {"evidence_not_read"}
}

test_a_read_that_failed_does_not_count if {
	d := decision with input as in_workflow([read_of("r", false)])
	codes(d.reasons) == {"evidence_not_read"}
}

test_reading_something_else_does_not_count if {
	d := decision with input as in_workflow([object.union(read_of("r", true), {"tool": "loopiq_get_release"})])
	codes(d.reasons) == {"evidence_not_read"}
}

test_without_a_limit_all_evidence_is_stale if {
	every field in ["max_age_s", "future_skew_s"] {
		d := decision with input as dry(plan) with data.evidence as object.remove(data.evidence, [field])
		codes(d.reasons) == {"evidence_stale"}
	}
}

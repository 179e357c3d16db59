package loopiq.gateway_test

import data.loopiq.gateway.decision

answer(caller) := object.union(call(caller, get_release, {}), {"phase": "response", "response": {"status": 200, "bytes": 10, "record_ids": []}})

redacted(obligations) := {path | some o in obligations; o.type == "redact"; some path in o.paths}

test_a_viewer_does_not_see_owners_addresses if {
	d := decision with input as answer(vic)
	d.allow
	{"/ownerEmail", "/items/*/ownerEmail"} - redacted(d.obligations) == set()
}

test_a_release_manager_does if {
	d := decision with input as answer(ada)
	d.allow
	redacted(d.obligations) == set()
}

test_whoever_has_no_role_does_not if {
	d := decision with input as answer(member("new", "org_gcn", ["emperor"]))
	"/ownerEmail" in redacted(d.obligations)
}

test_a_service_account_does_not_whatever_its_roles if {
	d := decision with input as answer(object.union(pipeline, {"roles": ["release_manager"]}))
	"/ownerEmail" in redacted(d.obligations)
}

test_what_happened_is_told_although_the_door_has_closed if {
	d := decision with input as answer(ada) with data.tenants as {}
	d.allow
}

test_the_call_names_the_same_redactions_as_its_answer if {
	c := decision with input as call(vic, get_release, {})
	a := decision with input as answer(vic)
	redacted(c.obligations) == redacted(a.obligations)
}

test_every_call_is_recorded_durably if {
	every caller in [ada, vic] {
		d := decision with input as call(caller, get_evidence, {})
		{"type": "audit", "mode": "durable"} in d.obligations
	}
}

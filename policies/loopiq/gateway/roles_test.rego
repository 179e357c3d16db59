package loopiq.gateway_test

import data.loopiq.gateway.decision
import data.loopiq.gateway.granted

analytics := read("loopiq_get_release_analytics", "analytics")

test_a_role_gives_its_permissions if {
	"release:read" in granted with input as call(vic, get_release, {})
	not "evidence:read" in granted with input as call(vic, get_release, {})
}

test_roles_add_up if {
	d := decision with input as call(member("x", "org_gcn", ["viewer", "auditor"]), get_evidence, {})
	d.allow
}

test_an_unknown_role_gives_nothing if {
	granted == set() with input as call(member("x", "org_gcn", ["emperor"]), get_release, {})
}

test_a_permission_that_is_false_is_not_given if {
	roles := {"viewer": {"permissions": {"release:read": false}}}
	granted == set() with input as call(vic, get_release, {}) with data.roles as roles
}

test_a_team_role_gives_its_permissions if {
	lead := object.union(member("x", "org_gcn", []), {"teams": {"logistics": ["lead"]}})
	d := decision with input as call(lead, analytics, {})
	d.allow
}

test_a_team_of_its_own_adds_to_what_any_team_gives if {
	"remediation:read" in granted with input as call(object.union(member("x", "org_gcn", []), {"teams": {"payments": ["lead"]}}), analytics, {})
	not "remediation:read" in granted with input as call(object.union(member("x", "org_gcn", []), {"teams": {"logistics": ["lead"]}}), analytics, {})
}

test_a_member_of_a_team_has_not_what_its_lead_has if {
	d := decision with input as call(ben, analytics, {})
	codes(d.reasons) == {"permission_missing"}
}

test_a_direct_permission_counts if {
	d := decision with input as call(object.union(vic, {"permissions": ["evidence:read"]}), get_evidence, {})
	d.allow
}

test_permission_to_read_is_no_permission_to_write if {
	tool := {"name": "loopiq_create_work_item", "family": "work_item", "effect": "write", "impact": "low", "route": "POST /x"}
	d := decision with input as call(vic, tool, {"title": "t", "parent": "p", "owner": "o"})
	codes(d.reasons) == {"permission_missing"}
}

test_the_reason_names_the_permission if {
	d := decision with input as call(vic, get_evidence, {})
	some reason in d.reasons
	reason.data.permission == "evidence:read"
}

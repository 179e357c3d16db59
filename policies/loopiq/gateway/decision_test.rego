package loopiq.gateway_test

import data.loopiq.gateway.decision

# Callers and tools that all tests of this package share.

member(user, tenant, roles) := {
	"user": user, "issuer": "https://issuer.example", "tenant": tenant, "roles": roles, "teams": {}, "permissions": [], "scopes": [],
	"client": "", "method": "oauth",
}

ada := member("ada", "org_gcn", ["release_manager"])

ben := object.union(member("ben", "org_gcn", ["developer"]), {"teams": {"payments": ["member"]}})

tess := member("tess", "org_gcn", ["tenant_admin"])

vic := member("vic", "org_gcn", ["viewer"])

nora := member("nora", "org_nordbank", ["release_manager"])

pipeline := object.union(member("svc-pipeline", "org_gcn", []), {"method": "service_account"})

read(name, family) := {"name": name, "family": family, "effect": "read", "impact": "low", "route": sprintf("GET /%s", [family])}

call(caller, tool, arguments) := {
	"schema": 1, "phase": "call", "caller": caller, "tool": tool, "arguments": arguments, "dry_run": false,
	"facts": [], "context": {"workflow": "", "chain": [], "now_ms": 1790000000000, "now": "2026-09-21T14:13:20Z"},
}

codes(reasons) := {reason.code | some reason in reasons}

get_release := read("loopiq_get_release", "release")

get_evidence := read("loopiq_get_evidence", "evidence")

two_tools := {"loopiq_get_release": get_release, "loopiq_get_evidence": get_evidence}

list(caller) := {
	"schema": 1, "phase": "list", "caller": caller, "tools": two_tools, "arguments": {}, "dry_run": false,
	"facts": [], "context": {"workflow": "", "chain": [], "now_ms": 1790000000000, "now": "2026-09-21T14:13:20Z"},
}

test_a_list_names_what_the_caller_may_call_and_nothing_else if {
	d := decision with input as list(vic)
	d.allow
	d.visible == {"loopiq_get_release"}
}

test_a_call_sees_the_tool_that_the_list_names if {
	d := decision with input as call(vic, get_release, {})
	d.allow
	d.visible == {"loopiq_get_release"}
}

test_a_call_of_a_hidden_tool_is_denied_and_does_not_see_it if {
	d := decision with input as call(vic, get_evidence, {})
	not d.allow
	d.visible == set()
	codes(d.reasons) == {"permission_missing"}
}

test_an_unknown_phase_gets_no_decision if {
	not decision with input as object.union(call(vic, get_release, {}), {"phase": "other"})
}

test_another_version_of_the_input_gets_no_decision if {
	not decision with input as object.union(call(vic, get_release, {}), {"schema": 2})
}

test_nobody_gets_nothing if {
	not decision with input as {}
}

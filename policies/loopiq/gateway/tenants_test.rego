package loopiq.gateway_test

import data.loopiq.gateway.decision

tenants_with(changes) := object.union(data.tenants, {"org_gcn": changes})

test_an_organisation_that_is_not_listed_is_closed if {
	d := decision with input as call(member("eve", "org_other", ["release_manager"]), get_release, {})
	not d.allow
	codes(d.reasons) == {"mcp_disabled"}
	d.visible == set()
}

test_an_organisation_with_mcp_off_is_closed if {
	d := decision with input as call(ada, get_release, {}) with data.tenants as tenants_with({"mcp_enabled": false})
	codes(d.reasons) == {"mcp_disabled"}
}

test_only_true_opens_an_organisation if {
	d := decision with input as call(ada, get_release, {}) with data.tenants as tenants_with({"mcp_enabled": "yes"})
	codes(d.reasons) == {"mcp_disabled"}
}

test_a_closed_organisation_lists_nothing_and_says_why if {
	d := decision with input as list(ada) with data.tenants as tenants_with({"mcp_enabled": false})
	not d.allow
	d.visible == set()
	codes(d.reasons) == {"mcp_disabled"}
}

test_a_family_that_is_not_offered_is_hidden if {
	d := decision with input as call(nora, read("loopiq_get_remediation_work_package", "remediation"), {})
	codes(d.reasons) == {"tool_not_in_tenant_allow_list"}
	d.visible == set()
}

test_a_single_tool_is_offered_without_its_family if {
	d := decision with input as call(nora, read("loopiq_list_ai_ml_agents", "ai_ml_agent"), {})
	d.allow
}

test_a_single_tool_is_taken_away_from_its_family if {
	d := decision with input as call(ada, get_release, {})
		with data.tenants as tenants_with({"tools": {"loopiq_get_release": false}})
	codes(d.reasons) == {"tool_not_in_tenant_allow_list"}
}

context := read("loopiq_get_tenant_context", "gateway")

test_any_member_may_ask_where_they_are if {
	d := decision with input as call(member("new", "org_gcn", []), context, {})
	d.allow
}

test_what_is_open_to_members_can_be_taken_away if {
	d := decision with input as call(ada, context, {})
		with data.tenants as tenants_with({"tools": {"loopiq_get_tenant_context": false}})
	codes(d.reasons) == {"tool_not_in_tenant_allow_list"}
}

test_open_families_open_reading_only if {
	d := decision with input as call(member("new", "org_gcn", []), object.union(context, {"effect": "write"}), {})
	not d.allow
}

diagnostics := {"name": "loopiq_get_diagnostics", "family": "admin", "effect": "admin", "impact": "low", "route": "GET /x"}

test_an_administrator_uses_admin_tools_where_the_organisation_says_so if {
	d := decision with input as call(tess, diagnostics, {})
	d.allow
}

test_an_administrator_uses_no_admin_tool_where_it_does_not if {
	d := decision with input as call(member("nils", "org_nordbank", ["tenant_admin"]), diagnostics, {})
	codes(d.reasons) == {"admin_tools_disabled"}
	d.visible == set()
}

test_others_use_no_admin_tool_even_there if {
	d := decision with input as call(ada, diagnostics, {})
	codes(d.reasons) == {"permission_missing"}
}

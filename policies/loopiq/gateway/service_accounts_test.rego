package loopiq.gateway_test

import data.loopiq.gateway.decision

test_a_service_account_uses_what_its_list_names if {
	d := decision with input as call(pipeline, get_release, {})
	d.allow
}

test_a_service_account_uses_nothing_else if {
	d := decision with input as call(pipeline, get_evidence, {})
	codes(d.reasons) == {"service_account_not_allowed"}
	d.visible == set()
}

test_roles_and_permissions_of_a_service_account_count_for_nothing if {
	mighty := object.union(pipeline, {
		"roles": ["release_manager", "tenant_admin"],
		"teams": {"payments": ["lead"]},
		"permissions": ["evidence:read"],
	})
	d := decision with input as call(mighty, get_evidence, {})
	codes(d.reasons) == {"service_account_not_allowed"}
}

test_a_service_account_stays_in_its_organisations if {
	d := decision with input as call(object.union(pipeline, {"tenant": "org_nordbank"}), get_release, {})
	codes(d.reasons) == {"service_account_not_allowed"}
}

test_a_service_account_that_is_not_listed_uses_nothing if {
	d := decision with input as call(object.union(pipeline, {"user": "svc-other"}), get_release, {})
	codes(d.reasons) == {"service_account_not_allowed"}
}

test_a_person_with_the_name_of_a_service_account_is_no_service_account if {
	d := decision with input as call(object.union(pipeline, {"method": "oauth"}), get_release, {})
	codes(d.reasons) == {"permission_missing"}
}

test_not_even_what_is_open_to_members_is_open_to_a_service_account if {
	d := decision with input as call(pipeline, read("loopiq_list_routes", "route"), {})
	codes(d.reasons) == {"service_account_not_allowed"}
}

test_a_service_account_needs_approval_as_people_do if {
	run := {"name": "loopiq_run_ai_ml_agent", "family": "ai_ml_agent", "effect": "write", "impact": "high", "route": "POST /x"}
	accounts := {"svc-pipeline": {"tenants": {"org_gcn": true}, "tools": {"loopiq_run_ai_ml_agent": true}}}
	d := decision with input as call(pipeline, run, {}) with data.service_accounts as accounts
	codes(d.reasons) == {"approval_required"}
}

package loopiq.gateway_test

import data.loopiq.gateway.decision

decide_certification := {
	"name": "loopiq_decide_release_certification", "family": "release_governance", "effect": "write", "impact": "high",
	"route": "POST /x",
}

deciding := call(ada, decide_certification, {"release": "r", "decision": "certify", "reason": "ready"})

vote(user, roles) := {"user": user, "roles": roles, "teams": []}

with_votes(state, votes) := object.union(deciding, {"approval": {"id": "a", "state": state, "votes": votes}})

otto := vote("otto", ["certification_approver"])

test_a_high_impact_call_waits_for_people if {
	d := decision with input as deciding
	not d.allow
	codes(d.reasons) == {"approval_required"}
	some obligation in d.obligations
	obligation.type == "require_approval"
	obligation.roles == ["certification_approver"]
	obligation.count == 1
}

test_a_dry_run_waits_for_nobody if {
	d := decision with input as object.union(deciding, {"dry_run": true})
	d.allow
}

test_a_low_impact_call_waits_for_nobody if {
	d := decision with input as object.union(deciding, {"tool": object.union(decide_certification, {"impact": "low"})})
	d.allow
}

test_an_approved_call_goes_through_and_asks_nobody_again if {
	d := decision with input as with_votes("approved", [otto])
	d.allow
	every obligation in d.obligations { obligation.type != "require_approval" }
}

test_only_approved_is_approved if {
	every state in ["pending", "rejected", "executed", "failed", ""] {
		d := decision with input as with_votes(state, [otto])
		codes(d.reasons) == {"approval_required"}
	}
}

test_nobody_approves_their_own_call if {
	d := decision with input as with_votes("approved", [vote("ada", ["certification_approver"])])
	codes(d.reasons) == {"approval_required"}
}

test_a_vote_without_the_role_does_not_count if {
	d := decision with input as with_votes("approved", [vote("ben", ["developer"])])
	codes(d.reasons) == {"approval_required"}
}

settings := {"name": "loopiq_update_tenant_settings", "family": "admin", "effect": "admin", "impact": "high", "route": "PUT /x"}

changing(votes) := object.union(call(tess, settings, {}), {"approval": {"id": "a", "state": "approved", "votes": votes}})

test_one_person_voting_twice_is_one_person if {
	d := decision with input as changing([otto, otto])
	codes(d.reasons) == {"approval_required"}
}

test_two_people_are_two if {
	d := decision with input as changing([otto, vote("olga", ["certification_approver"])])
	d.allow
}

test_the_rule_of_the_tool_comes_before_that_of_its_family if {
	rules := {
		"default": object.get(data.approvals, "default", {}),
		"families": data.approvals.families,
		"tools": {"loopiq_update_tenant_settings": object.union(data.approvals.families.admin, {"count": 1})},
	}
	d := decision with input as changing([otto]) with data.approvals as rules
	d.allow
}

test_a_team_or_a_user_may_be_named_to_approve if {
	rule := object.union(data.approvals["default"], {"roles": [], "teams": ["payments"], "users": ["uma"]})
	rules := {"default": rule, "families": {}, "tools": {}}
	by_team := with_votes("approved", [{"user": "ben", "roles": [], "teams": ["payments"]}])
	d1 := decision with input as by_team with data.approvals as rules
	d1.allow
	d2 := decision with input as with_votes("approved", [vote("uma", [])]) with data.approvals as rules
	d2.allow
	d3 := decision with input as with_votes("approved", [otto]) with data.approvals as rules
	not d3.allow
}

test_an_approval_is_no_permission if {
	d := decision with input as object.union(with_votes("approved", [otto]), {"caller": ben})
	codes(d.reasons) == {"permission_missing"}
}

test_without_a_rule_nobody_can_approve if {
	rules := {"families": {}, "tools": {}}
	d := decision with input as with_votes("approved", [otto]) with data.approvals as rules
	codes(d.reasons) == {"approval_rule_missing"}
}

test_a_rule_that_lacks_something_approves_nothing if {
	whole_rule := data.approvals["default"]
	every field, _ in whole_rule {
		rules := {"default": object.remove(whole_rule, [field]), "families": {}, "tools": {}}
		d := decision with input as with_votes("approved", [otto]) with data.approvals as rules
		codes(d.reasons) == {"approval_rule_missing"}
	}
}

test_a_rule_that_asks_nobody_approves_nothing if {
	rules := {"default": object.union(data.approvals["default"], {"count": 0}), "families": {}, "tools": {}}
	d := decision with input as with_votes("approved", []) with data.approvals as rules
	codes(d.reasons) == {"approval_rule_missing"}
}

# METADATA
# title: What needs people to agree
# description: |
#   Reads `data/approvals.yaml`. A high-impact call waits until enough people other than the caller
#   have agreed. A dry run changes nothing, so it waits for nobody.
package loopiq.gateway

needs_approval if {
	calling.impact == "high"
	not input.dry_run
}

approval_rule := data.approvals.tools[calling.name] if {
	data.approvals.tools[calling.name]
} else := data.approvals.families[calling.family] if {
	data.approvals.families[calling.family]
} else := data.approvals["default"]

agreed contains vote.user if {
	some vote in input.approval.votes
	vote.user != input.caller.user
	entitled(vote)
}

entitled(vote) if {
	some role in vote.roles
	role in approval_rule.roles
}

entitled(vote) if {
	some team in vote.teams
	team in approval_rule.teams
}

entitled(vote) if vote.user in approval_rule.users

# A rule that lacks something cannot be kept, so nothing is approved under it.
approval_rule_sound if {
	is_array(approval_rule.roles)
	is_array(approval_rule.teams)
	is_array(approval_rule.users)
	approval_rule.count >= 1
	approval_rule.approve_by_s >= 1
	approval_rule.execute_within_s >= 1
	is_boolean(approval_rule.preview)
}

approved if {
	approval_rule_sound
	input.approval.state == "approved"
	count(agreed) >= approval_rule.count
}

reasons contains {
	"code": "approval_rule_missing",
	"message": sprintf("`%s` has high impact, and no rule says who may approve it", [calling.name]),
	"next": "ask the security team to name its approvers",
} if {
	needs_approval
	not approval_rule_sound
}

reasons contains {
	"code": "approval_required",
	"message": sprintf("`%s` has high impact: people other than you must agree, %d of them", [calling.name, approval_rule.count]),
	"next": "ask the approvers named to decide, then call again with the `approvalId`",
	"data": {"roles": approval_rule.roles, "teams": approval_rule.teams, "users": approval_rule.users, "count": approval_rule.count},
} if {
	needs_approval
	approval_rule_sound
	not approved
}

obligations contains {
	"type": "require_approval",
	"roles": approval_rule.roles,
	"teams": approval_rule.teams,
	"users": approval_rule.users,
	"count": approval_rule.count,
	"approve_by_s": approval_rule.approve_by_s,
	"execute_within_s": approval_rule.execute_within_s,
	"preview": approval_rule.preview,
} if {
	needs_approval
	approval_rule_sound
	not approved
}

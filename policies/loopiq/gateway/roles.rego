# METADATA
# title: What people may do
# description: |
#   Reads `data/roles.yaml` and `data/teams.yaml`. Organisation roles, team roles and direct
#   permissions add up. Service accounts are judged in `service_accounts.rego` alone.
package loopiq.gateway

person if input.caller.method != "service_account"

granted contains permission if {
	some role in input.caller.roles
	some permission, true in data.roles[role].permissions
}

granted contains permission if {
	some _, roles in input.caller.teams
	some role in roles
	some permission, true in data.teams.any[role].permissions
}

granted contains permission if {
	some team, roles in input.caller.teams
	team != "any"
	some role in roles
	some permission, true in data.teams[team][role].permissions
}

granted contains permission if some permission in input.caller.permissions

hidden contains {"tool": name, "reason": {
	"code": "permission_missing",
	"message": sprintf("`%s` needs the permission `%s`, which `%s` does not have", [name, permission, input.caller.user]),
	"next": "ask the organisation's administrator for a role with that permission",
	"data": {"permission": permission},
}} if {
	person
	tenant_open
	some name, tool in tools
	not open_to_members(tool)
	permission := sprintf("%s:%s", [tool.family, tool.effect])
	not permission in granted
}

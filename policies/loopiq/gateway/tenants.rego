# METADATA
# title: Organisations and what they let MCP clients use
# description: Reads `data/tenants.yaml` and `data/members.yaml`.
package loopiq.gateway

tenant := data.tenants[input.caller.tenant]

tenant_open if tenant.mcp_enabled == true

# An answer that is on its way is not withheld because the door closed behind it.
reasons contains {
	"code": "mcp_disabled",
	"message": sprintf("MCP access is not enabled for `%s`", [input.caller.tenant]),
	"next": "ask the organisation's administrator to enable it",
} if {
	input.phase != "response"
	not tenant_open
}

tenant_offers(tool) if {
	tenant.families[tool.family] == true
	not tenant.tools[tool.name] == false
}

tenant_offers(tool) if tenant.tools[tool.name] == true

tenant_offers(tool) if {
	open_to_members(tool)
	not tenant.tools[tool.name] == false
}

open_to_members(tool) if {
	data.members.families[tool.family] == true
	tool.effect == "read"
}

hidden contains {"tool": name, "reason": {
	"code": "tool_not_in_tenant_allow_list",
	"message": sprintf("`%s` is not among the tools of `%s`", [name, input.caller.tenant]),
	"next": "use a tool that `tools/list` names, or ask the organisation's administrator to add this one",
}} if {
	tenant_open
	some name, tool in tools
	not tenant_offers(tool)
}

hidden contains {"tool": name, "reason": {
	"code": "admin_tools_disabled",
	"message": sprintf("`%s` has not enabled tools that administer LoopIQ", [input.caller.tenant]),
	"next": "ask the organisation's administrator, or use LoopIQ's own console",
}} if {
	tenant_open
	some name, tool in tools
	tool.effect == "admin"
	not tenant.admin_tools == true
}

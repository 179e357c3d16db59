# METADATA
# title: What service accounts may do
# description: Reads `data/service_accounts.yaml`. Whatever is not listed there is denied.
package loopiq.gateway

service_account_allowed(tool) if {
	account := data.service_accounts[input.caller.user]
	account.tenants[input.caller.tenant] == true
	account.tools[tool.name] == true
}

hidden contains {"tool": name, "reason": {
	"code": "service_account_not_allowed",
	"message": sprintf("the service account `%s` may not use `%s` in `%s`", [input.caller.user, name, input.caller.tenant]),
	"next": "ask the security team to add it to the service account's own list",
}} if {
	not person
	tenant_open
	some name, tool in tools
	not service_account_allowed(tool)
}

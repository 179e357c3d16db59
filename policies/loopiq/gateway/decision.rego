# METADATA
# title: What the gateway asks
# description: |
#   One entry point for listing, calling and answering. The other files of this package fill two
#   sets: `hidden` (which tools the caller must not see, and why) and `reasons` (what else is wrong
#   with this call). The call goes through when there is no reason.
package loopiq.gateway

# METADATA
# entrypoint: true
decision := {
	"allow": count(reasons) == 0,
	"reasons": reasons,
	"obligations": obligations,
	"visible": visible,
} if {
	input.schema == 1
	input.phase in {"list", "call", "response"}
}

# The tools in question, by name: all of them when listing, else the one called.
tools := input.tools if {
	input.phase == "list"
} else := {input.tool.name: input.tool}

visible contains name if {
	tenant_open
	some name, _ in tools
	not name in hidden_names
}

hidden_names contains h.tool if some h in hidden

# Everything that hides the called tool is a reason why it may not be called.
reasons contains h.reason if {
	input.phase == "call"
	some h in hidden
}

calling := input.tool if input.phase == "call"

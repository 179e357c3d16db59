# METADATA
# title: What must be done along with a call
# description: |
#   Reads `data/redactions.yaml`. An answer is never denied here, because what it tells has
#   happened; fields are taken out of it.
package loopiq.gateway

answering if input.phase in {"call", "response"}

obligations contains {"type": "redact", "paths": rule.paths} if {
	answering
	some name, rule in data.redactions
	not name in shown
}

shown contains name if {
	person
	some name, rule in data.redactions
	some role in input.caller.roles
	rule.shown_to[role] == true
}

# No record, no answer; for every tool. A read may be told otherwise here by its route.
obligations contains {"type": "audit", "mode": "durable"} if input.phase in {"list", "call", "response"}

# METADATA
# title: What evidence a decision may rest on
# description: |
#   Reads `data/evidence.yaml`. Evidence must be fresh: the caller says when they read it, or leaves
#   it to LoopIQ, which knows. Inside a workflow it must have been read before it is acted on.
package loopiq.gateway

as_of_argument := data.evidence.as_of[calling.name]

as_of := input.arguments[as_of_argument]

# RFC 3339 of this century, and only days that the calendar has: the parser fails on others, and a
# failing function is no decision at all.
rfc3339 := concat("", [
	`^20([0-9]{2}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])`,
	`|[0-9]{2}-(0[469]|11)-(0[1-9]|[12][0-9]|30)`,
	`|[0-9]{2}-02-(0[1-9]|1[0-9]|2[0-8])`,
	`|([02468][048]|[13579][26])-02-29)`,
	`[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`,
])

as_of_ns := time.parse_rfc3339_ns(as_of) if {
	is_string(as_of)
	regex.match(rfc3339, as_of)
}

now_ns := input.context.now_ms * 1000000

fresh if {
	is_string(as_of)
	as_of == data.evidence.told_by_loopiq
}

fresh if {
	as_of_ns >= now_ns - (data.evidence.max_age_s * 1000000000)
	as_of_ns <= now_ns + (data.evidence.future_skew_s * 1000000000)
}

reasons contains {
	"code": "evidence_stale",
	"message": sprintf("the evidence behind `%s` is too old, from the future, or without a time", [calling.name]),
	"next": sprintf("refresh the evidence graph, read it, and give its time as `%s`", [as_of_argument]),
	"data": {"about": "arguments", "path": sprintf("/%s", [as_of_argument])},
} if {
	as_of_argument
	not fresh
}

reading_tool := data.evidence.read_first[calling.name]

evidence_read if {
	some earlier in input.facts
	earlier.tool == reading_tool
	earlier.ok == true
	earlier.arguments.release == input.arguments.release
}

reasons contains {
	"code": "evidence_not_read",
	"message": sprintf("nobody has read the evidence of this release in workflow `%s`", [input.context.workflow]),
	"next": sprintf("call `%s` for this release in this workflow first", [reading_tool]),
	"data": {"about": "arguments", "tool": reading_tool},
} if {
	reading_tool
	input.context.workflow != ""
	not evidence_read
}

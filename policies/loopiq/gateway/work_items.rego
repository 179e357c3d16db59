# METADATA
# title: What a work item must have
# description: |
#   A title, a parent and an owner, when it is made; and an update must not take one away. Tasks of
#   a remediation work package are work items too; their parent is the package's story, and the
#   package's owner owns those that name nobody.
package loopiq.gateway

creates_work_item if {
	calling.family == "work_item"
	calling.effect == "write"
	startswith(calling.route, "POST ")
}

updates_work_item if {
	calling.family == "work_item"
	calling.effect == "write"
	not startswith(calling.route, "POST ")
}

creates_work_package if {
	calling.family == "remediation"
	calling.effect == "write"
}

filled(text) if {
	is_string(text)
	trim_space(text) != ""
}

arguments := input.arguments

# Fields that must be there and say something: code suffix and the words for it.
required := {"title": "title", "parent": "parent", "owner": "owner"}

missing contains {"field": field, "path": sprintf("/%s", [field])} if {
	creates_work_item
	some field, _ in required
	not filled(arguments[field])
}

missing contains {"field": field, "path": sprintf("/%s", [field])} if {
	updates_work_item
	some field, _ in required
	field in object.keys(arguments)
	not filled(arguments[field])
}

missing contains {"field": field, "path": sprintf("/%s", [field])} if {
	creates_work_package
	some field in {"title", "owner"}
	not filled(arguments[field])
}

missing contains {"field": "parent", "path": "/parentStory/title"} if {
	creates_work_package
	not filled(arguments.parentStory.title)
}

tasks := arguments.tasks if is_array(arguments.tasks)

# What is no list has no titles.
missing contains {"field": "title", "path": "/tasks"} if {
	creates_work_package
	"tasks" in object.keys(arguments)
	not tasks
}

missing contains {"field": "title", "path": sprintf("/tasks/%d/title", [n])} if {
	creates_work_package
	some n, task in tasks
	not filled(task.title)
}

missing contains {"field": "owner", "path": sprintf("/tasks/%d/owner", [n])} if {
	creates_work_package
	some n, task in tasks
	not filled(task.owner)
	not filled(arguments.owner)
}

# A task that names its owner must name one.
missing contains {"field": "owner", "path": sprintf("/tasks/%d/owner", [n])} if {
	creates_work_package
	some n, task in tasks
	is_object(task)
	"owner" in object.keys(task)
	not filled(task.owner)
}

reasons contains {
	"code": sprintf("work_item_%s_missing", [m.field]),
	"message": sprintf("the work item has no %s (`%s`)", [m.field, m.path]),
	"next": sprintf("give `%s` a value and call again", [m.path]),
	"data": {"about": "arguments", "path": m.path},
} if {
	some m in missing
}

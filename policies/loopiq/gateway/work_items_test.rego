package loopiq.gateway_test

import data.loopiq.gateway.decision

create := {"name": "loopiq_create_work_item", "family": "work_item", "effect": "write", "impact": "low", "route": "POST /work-items"}

update := {"name": "loopiq_update_work_item", "family": "work_item", "effect": "write", "impact": "low", "route": "PATCH /work-items/{workItem}"}

package_tool := {
	"name": "loopiq_create_remediation_work_package", "family": "remediation", "effect": "write", "impact": "high",
	"route": "POST /x",
}

whole := {"title": "Fix it", "type": "task", "parent": "wi-1", "owner": "ben"}

test_a_whole_work_item_is_made if {
	d := decision with input as call(ben, create, whole)
	d.allow
}

test_each_missing_field_is_named if {
	d := decision with input as call(ben, create, {})
	codes(d.reasons) == {"work_item_title_missing", "work_item_parent_missing", "work_item_owner_missing"}
}

test_blanks_are_missing if {
	d := decision with input as call(ben, create, {"title": " \t\n", "parent": "", "owner": "ben"})
	codes(d.reasons) == {"work_item_title_missing", "work_item_parent_missing"}
}

test_what_is_no_text_is_missing if {
	d := decision with input as call(ben, create, object.union(whole, {"owner": null, "parent": 3}))
	codes(d.reasons) == {"work_item_owner_missing", "work_item_parent_missing"}
}

test_an_update_may_leave_fields_out if {
	d := decision with input as call(ben, update, {"workItem": "wi-1", "status": "done"})
	d.allow
}

test_an_update_may_not_take_a_title_away if {
	d := decision with input as call(ben, update, {"workItem": "wi-1", "title": " "})
	codes(d.reasons) == {"work_item_title_missing"}
}

test_reading_work_items_needs_no_title if {
	d := decision with input as call(vic, read("loopiq_search_work_items", "work_item"), {})
	d.allow
}

plan := {
	"release": "r", "title": "Close the gaps", "owner": "ada", "parentStory": {"title": "Remediate"},
	"tasks": [{"title": "One"}, {"title": "Two", "owner": "ben"}], "evidenceAsOf": "2026-09-21T14:00:00Z",
}

dry(arguments) := object.union(call(ada, package_tool, arguments), {"dry_run": true})

test_a_whole_package_is_previewed if {
	d := decision with input as dry(plan)
	d.allow
}

test_a_task_without_title_is_named_by_its_place if {
	d := decision with input as dry(object.union(plan, {"tasks": [{"title": "One"}, {"title": ""}]}))
	codes(d.reasons) == {"work_item_title_missing"}
	some reason in d.reasons
	reason.data.path == "/tasks/1/title"
}

test_the_packages_owner_owns_tasks_that_name_nobody if {
	d := decision with input as dry(object.remove(plan, ["owner"]))
	{reason.data.path | some reason in d.reasons} == {"/owner", "/tasks/0/owner"}
}

test_a_task_may_not_name_an_empty_owner if {
	d := decision with input as dry(object.union(plan, {"tasks": [{"title": "One", "owner": " "}]}))
	codes(d.reasons) == {"work_item_owner_missing"}
}

test_a_package_needs_a_story if {
	d := decision with input as dry(object.remove(plan, ["parentStory"]))
	codes(d.reasons) == {"work_item_parent_missing"}
}

test_tasks_that_are_no_list_have_no_titles if {
	every tasks in [{"title": "x"}, "x", 3, null] {
		d := decision with input as dry(object.union(plan, {"tasks": tasks}))
		codes(d.reasons) == {"work_item_title_missing"}
	}
}

test_a_task_that_is_no_task_lacks_a_title if {
	d := decision with input as dry(object.union(plan, {"tasks": [7]}))
	codes(d.reasons) == {"work_item_title_missing"}
}

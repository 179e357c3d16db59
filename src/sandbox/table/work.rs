//! Releases, applications, modules, work items and remediation packages.
//!
//! Promises: one entry per route, as `sandbox::table` says.

use crate::domain::catalog::Impact;
use crate::sandbox::kind::Kind;
use crate::sandbox::operation::Act;
use crate::sandbox::operation::Method;
use crate::sandbox::operation::Operation;
use crate::sandbox::operation::Shape;
use crate::sandbox::packages;
use crate::sandbox::schema;
use crate::sandbox::work;

use super::APPLICATION;
use super::CERTIFICATION_OF_RELEASE;
use super::PARENT;
use super::Q;
use super::READ;
use super::RELEASE;
use super::SEARCH;
use super::TYPE;
use super::WRITE;
use super::state;

/// What there is to release.
pub(super) static ESTATE: &[Operation] = &[
    Operation {
        tool: "loopiq_search_releases",
        title: "Search releases",
        about: "Lists releases, oldest first, by words, state and application.",
        path: "/api/v1/releases",
        family: "release",
        query: &[Q, state(schema::RELEASE_STATES), APPLICATION],
        answer: Shape::Page("Release"),
        act: Act::List(Kind::Release),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release",
        title: "Get a release",
        about: "Shows one release: its application, version, state, owner and certification.",
        path: "/api/v1/releases/{release}",
        family: "release",
        answer: Shape::Record("Release"),
        act: Act::Show(Kind::Release, "release"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_applications",
        title: "Search applications",
        about: "Lists applications by words.",
        path: "/api/v1/applications",
        family: "application",
        query: &[Q],
        answer: Shape::Page("Application"),
        act: Act::List(Kind::Application),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_application",
        title: "Get an application",
        about: "Shows one application with its owner, team and criticality.",
        path: "/api/v1/applications/{application}",
        family: "application",
        answer: Shape::Record("Application"),
        act: Act::Show(Kind::Application, "application"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_modules",
        title: "Search modules",
        about: "Lists modules by words and application.",
        path: "/api/v1/modules",
        family: "module",
        query: &[Q, APPLICATION],
        answer: Shape::Page("Module"),
        act: Act::List(Kind::Module),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_module",
        title: "Get a module",
        about: "Shows one module with its application, language and repository.",
        path: "/api/v1/modules/{module}",
        family: "module",
        answer: Shape::Record("Module"),
        act: Act::Show(Kind::Module, "module"),
        ..READ
    },
];

/// What is to be done.
pub(super) static WORK: &[Operation] = &[
    Operation {
        tool: "loopiq_search_work_items",
        title: "Search work items",
        about: "Lists stories, tasks and bugs by words, type, state, release and parent.",
        path: "/api/v1/work-items",
        family: "work_item",
        query: &[Q, TYPE, state(schema::WORK_ITEM_STATES), RELEASE, PARENT],
        answer: Shape::Page("WorkItem"),
        act: Act::List(Kind::WorkItem),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_work_item",
        title: "Get a work item",
        about: "Shows one work item with its parent, owner and state.",
        path: "/api/v1/work-items/{workItem}",
        family: "work_item",
        answer: Shape::Record("WorkItem"),
        act: Act::Show(Kind::WorkItem, "workItem"),
        ..READ
    },
    Operation {
        tool: "loopiq_create_work_item",
        title: "Create a work item",
        about: "Creates a story, task or bug. The parent, the release and the owner must exist.",
        path: "/api/v1/work-items",
        family: "work_item",
        body: Some(schema::body::new_work_item),
        answer: Shape::Record("WorkItem"),
        status: 201,
        act: Act::Run(work::create),
        ..WRITE
    },
    Operation {
        tool: "loopiq_update_work_item",
        title: "Update a work item",
        about: "Changes title, state, owner or description of a work item.",
        method: Method::Patch,
        path: "/api/v1/work-items/{workItem}",
        family: "work_item",
        body: Some(schema::body::work_item_change),
        answer: Shape::Record("WorkItem"),
        etag: Some("loopiq_get_work_item"),
        act: Act::Run(work::update),
        ..WRITE
    },
    Operation {
        tool: "loopiq_create_remediation_work_package",
        title: "Create a remediation work package",
        about: "Creates one parent story and its child tasks for the blockers and evidence of a release's \
                certification, all together or not at all.",
        path: "/api/v1/releases/{release}/remediation-work-packages",
        family: "remediation",
        impact: Impact::High,
        body: Some(schema::body::new_work_package),
        answer: Shape::Record("WorkPackage"),
        status: 201,
        versioned: false,
        etag: Some(CERTIFICATION_OF_RELEASE),
        inner_tenants: &["/parent/tenant", "/children/*/tenant"],
        inner_ids: &["/parent/id", "/children/*/id"],
        act: Act::Run(packages::create),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_remediation_work_package",
        title: "Get a remediation work package",
        about: "Shows a remediation work package with its story and tasks as they are now.",
        path: "/api/v1/remediation-work-packages/{workPackage}",
        family: "remediation",
        answer: Shape::Record("WorkPackage"),
        inner_tenants: &["/parent/tenant", "/children/*/tenant"],
        inner_ids: &["/parent/id", "/children/*/id"],
        act: Act::Run(packages::show),
        ..READ
    },
];

//! Every operation of the LoopIQ route API, one entry each.
//!
//! Promises: what stands here is what is served and what is documented. Never holds behaviour;
//! an entry names the function that does. Read by `sandbox::door` and `sandbox::openapi`.

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;

use super::kind::Kind;
use super::operation::Act;
use super::operation::Method;
use super::operation::Operation;
use super::operation::Param;
use super::operation::Shape;
use super::operation::Values;
use super::schema;

mod work;
mod assurance;
mod running;

const Q: Param = Param { name: "q", about: "Words to find in ids, titles and names.", values: Values::Text };
const APPLICATION: Param = Param { name: "application", about: "Id of an application.", values: Values::Text };
const RELEASE: Param = Param { name: "release", about: "Id of a release.", values: Values::Text };
const CONTROL: Param = Param { name: "control", about: "Id of a control.", values: Values::Text };
const PARENT: Param = Param { name: "parent", about: "Id of the parent work item.", values: Values::Text };
const FRAMEWORK: Param = Param { name: "framework", about: "Framework, such as SOC2.", values: Values::Text };
const FROM: Param = Param { name: "from", about: "Only what was created at or after this time.", values: Values::Time };
const TO: Param = Param { name: "to", about: "Only what was created before this time.", values: Values::Time };

const fn state(values: &'static [&'static str]) -> Param {
    Param { name: "status", about: "State.", values: Values::Of(values) }
}

const TYPE: Param = Param { name: "type", about: "Kind of work item.", values: Values::Of(schema::WORK_ITEM_TYPES) };
const PROVIDER: Param = Param { name: "provider", about: "Scanner.", values: Values::Of(schema::PROVIDERS) };
const SEVERITY: Param = Param { name: "severity", about: "Severity.", values: Values::Of(schema::SEVERITIES) };

/// Where the certification of a release, with its version, is read.
const CERTIFICATION_OF_RELEASE: &str = "loopiq_get_release_certification";

/// What most entries have in common: a tool that reads one record.
const READ: Operation = Operation {
    tool: "",
    is_tool: true,
    title: "",
    about: "",
    method: Method::Get,
    path: "",
    family: "",
    effect: Effect::Read,
    impact: Impact::Low,
    query: &[],
    body: None,
    answer: Shape::Record(""),
    status: 200,
    versioned: true,
    etag: None,
    inner_tenants: &[],
    inner_ids: &[],
    act: Act::List(Kind::Release),
};

/// A tool that lists records or computes something without a version.
const SEARCH: Operation = Operation { versioned: false, ..READ };

/// A tool that changes records.
const WRITE: Operation = Operation { method: Method::Post, effect: Effect::Write, ..READ };

/// Every operation under `/api/v1`.
pub(super) fn operations() -> impl Iterator<Item = &'static Operation> {
    [work::ESTATE, work::WORK, assurance::CERTIFICATION, assurance::GOVERNANCE, running::AGENTS, running::ADMIN]
        .into_iter()
        .flatten()
}

/// The operation of this tool name.
pub(super) fn operation(tool: &str) -> Option<&'static Operation> {
    operations().find(|operation| operation.tool == tool)
}

//! Certifications, controls, evidence and the governance of a release.
//!
//! Promises: one entry per route, as `sandbox::table` says.

use crate::domain::catalog::Impact;
use crate::sandbox::governance;
use crate::sandbox::graph;
use crate::sandbox::kind::Kind;
use crate::sandbox::operation::Act;
use crate::sandbox::operation::Operation;
use crate::sandbox::operation::Shape;
use crate::sandbox::schema;

use super::CERTIFICATION_OF_RELEASE;
use super::CONTROL;
use super::FRAMEWORK;
use super::PROVIDER;
use super::Q;
use super::READ;
use super::RELEASE;
use super::SEARCH;
use super::SEVERITY;
use super::WRITE;
use super::state;

/// What a certification rests on.
pub(super) static CERTIFICATION: &[Operation] = &[
    Operation {
        tool: "loopiq_search_certifications",
        title: "Search certifications",
        about: "Lists certifications by release and state.",
        path: "/api/v1/certifications",
        family: "certification",
        query: &[RELEASE, state(schema::CERTIFICATION_STATES)],
        answer: Shape::Page("Certification"),
        act: Act::List(Kind::Certification),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_certification",
        title: "Get a certification",
        about: "Shows one certification with the result of each control.",
        path: "/api/v1/certifications/{certification}",
        family: "certification",
        answer: Shape::Record("Certification"),
        act: Act::Show(Kind::Certification, "certification"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_controls",
        title: "Search controls",
        about: "Lists compliance controls by words and framework.",
        path: "/api/v1/controls",
        family: "control",
        query: &[Q, FRAMEWORK],
        answer: Shape::Page("Control"),
        act: Act::List(Kind::Control),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_control",
        title: "Get a control",
        about: "Shows one compliance control and what it asks.",
        path: "/api/v1/controls/{control}",
        family: "control",
        answer: Shape::Record("Control"),
        act: Act::Show(Kind::Control, "control"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_evidence",
        title: "Search evidence",
        about: "Lists evidence by release, control and state (fresh, stale, missing).",
        path: "/api/v1/evidence",
        family: "evidence",
        query: &[RELEASE, CONTROL, state(schema::EVIDENCE_STATES)],
        answer: Shape::Page("Evidence"),
        act: Act::List(Kind::Evidence),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_evidence",
        title: "Get a piece of evidence",
        about: "Shows one piece of evidence: where it came from, when, and until when it is fresh.",
        path: "/api/v1/evidence/{evidence}",
        family: "evidence",
        answer: Shape::Record("Evidence"),
        act: Act::Show(Kind::Evidence, "evidence"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_provider_findings",
        title: "Search provider findings",
        about: "Lists findings of Snyk, SonarQube and GitHub by provider, severity and release.",
        path: "/api/v1/provider-findings",
        family: "evidence",
        query: &[PROVIDER, SEVERITY, RELEASE],
        answer: Shape::Page("ProviderFinding"),
        act: Act::List(Kind::Finding),
        ..SEARCH
    },
];

/// How a release is certified.
pub(super) static GOVERNANCE: &[Operation] = &[
    Operation {
        tool: CERTIFICATION_OF_RELEASE,
        title: "Get a release's certification",
        about: "Shows the certification of a release with counts of its controls, evidence and blockers.",
        path: "/api/v1/releases/{release}/certification",
        family: "release_governance",
        answer: Shape::Record("ReleaseCertification"),
        act: Act::Run(governance::certification),
        ..READ
    },
    Operation {
        tool: "loopiq_get_release_certification_evidence",
        title: "Get the evidence of a release's certification",
        about: "Lists the evidence behind a release's certification with its freshness.",
        path: "/api/v1/releases/{release}/certification/evidence",
        family: "release_governance",
        answer: Shape::Page("Evidence"),
        act: Act::Run(governance::evidence),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_certification_blockers",
        title: "Get the blockers of a release's certification",
        about: "Lists what keeps a release from being certified, open and resolved.",
        path: "/api/v1/releases/{release}/certification/blockers",
        family: "release_governance",
        answer: Shape::Page("Blocker"),
        act: Act::Run(governance::blockers),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_certification_gaps",
        title: "Get the evidence gaps of a release's certification",
        about: "Lists the controls of a release whose evidence is missing or stale.",
        path: "/api/v1/releases/{release}/certification/gaps",
        family: "release_governance",
        answer: Shape::Page("Gap"),
        act: Act::Run(governance::gaps),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_readiness",
        title: "Get a release's readiness",
        about: "Says whether a release could be certified now, check by check.",
        path: "/api/v1/releases/{release}/readiness",
        family: "release_governance",
        answer: Shape::Record("Readiness"),
        act: Act::Run(governance::readiness),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_decide_release_certification",
        title: "Decide a release's certification",
        about: "Certifies or rejects a release. Open blockers keep it from being certified where the organisation \
                says so; a decision is made once.",
        path: "/api/v1/releases/{release}/certification/decision",
        family: "release_governance",
        impact: Impact::High,
        body: Some(schema::body::decision),
        answer: Shape::Record("ReleaseCertification"),
        etag: Some(CERTIFICATION_OF_RELEASE),
        act: Act::Run(governance::decide),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_release_certification_evidence_graph",
        title: "Get the evidence graph of a release's certification",
        about: "Shows how controls, evidence, findings, blockers and remediation hang together, with gaps, as of the \
                last refresh.",
        path: "/api/v1/releases/{release}/certification/evidence-graph",
        family: "evidence_graph",
        answer: Shape::Record("EvidenceGraph"),
        inner_tenants: &["/nodes/*/tenant"],
        act: Act::Run(graph::show),
        ..READ
    },
    Operation {
        tool: "loopiq_refresh_release_certification_evidence_graph",
        title: "Refresh the evidence graph of a release's certification",
        about: "Builds the evidence graph again from the records as they are now.",
        path: "/api/v1/releases/{release}/certification/evidence-graph/refresh",
        family: "evidence_graph",
        body: Some(schema::body::refresh),
        answer: Shape::Record("EvidenceGraph"),
        etag: Some("loopiq_get_release_certification_evidence_graph"),
        inner_tenants: &["/nodes/*/tenant"],
        act: Act::Run(graph::refresh),
        ..WRITE
    },
];

//! Kinds of records: how each is stored, called and numbered.
//!
//! Promises: a closed set; the stored name is what previews, effects and diagnostics show.

/// Kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Users of an organisation.
    Member,
    /// Applications.
    Application,
    /// Modules of applications.
    Module,
    /// Releases of applications.
    Release,
    /// Compliance controls.
    Control,
    /// Certifications of releases.
    Certification,
    /// Evidence.
    Evidence,
    /// What keeps a release from being certified.
    Blocker,
    /// Findings of scanners.
    Finding,
    /// Stories, tasks, bugs.
    WorkItem,
    /// Remediation work packages.
    WorkPackage,
    /// AI/ML agents.
    Agent,
    /// Runs of agents.
    AgentRun,
    /// Evidence graphs, one per release, under the release's id.
    EvidenceGraph,
    /// Settings, one per organisation.
    Settings,
}

impl Kind {
    /// Every kind, with its stored name, its name for people and the prefix of new ids.
    const ALL: &'static [(Self, &'static str, &'static str, &'static str)] = &[
        (Self::Member, "member", "member", "USR"),
        (Self::Application, "application", "application", "APP"),
        (Self::Module, "module", "module", "MOD"),
        (Self::Release, "release", "release", "REL"),
        (Self::Control, "control", "control", "CTL"),
        (Self::Certification, "certification", "certification", "CERT"),
        (Self::Evidence, "evidence", "piece of evidence", "EV"),
        (Self::Blocker, "blocker", "blocker", "BLK"),
        (Self::Finding, "provider_finding", "provider finding", "FND"),
        (Self::WorkItem, "work_item", "work item", "WI"),
        (Self::WorkPackage, "work_package", "remediation work package", "WP"),
        (Self::Agent, "ai_ml_agent", "AI/ML agent", "AGT"),
        (Self::AgentRun, "ai_ml_agent_run", "run of this agent", "RUN"),
        (Self::EvidenceGraph, "evidence_graph", "release with an evidence graph", "EG"),
        (Self::Settings, "tenant_settings", "setting", "SET"),
    ];

    fn row(self) -> (&'static str, &'static str, &'static str) {
        Self::ALL
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or(("", "", ""), |(_, stored, words, prefix)| (stored, words, prefix))
    }

    /// Stored and shown name.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    /// The kind of this stored name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, stored, ..)| *stored == name).map(|(kind, ..)| *kind)
    }

    /// Name for people.
    pub(super) fn words(self) -> &'static str {
        self.row().1
    }

    /// What new ids begin with.
    pub(super) fn prefix(self) -> &'static str {
        self.row().2
    }
}

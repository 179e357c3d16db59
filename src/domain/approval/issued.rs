//! An approval that LoopIQ issued itself, as a ticket of ours.
//!
//! Promises: such a ticket exists only for the very action, person and organisation that the token
//! names, and only when those who agreed are enough by today's policy; from then on it is used once
//! like any other. Never checks a signature: `identity::approval_token` has.

use super::Ballot;
use super::Person;
use super::Requirement;
use super::State;
use super::Subject;
use super::Ticket;
use super::Unusable;
use super::Verdict;
use crate::domain::identity::approval_token::SignedApproval;
use crate::domain::identity::approval_token::SignedVote;
use crate::domain::identity::approval_token::action_digest;
use crate::domain::refusal::Reason;

/// What stands for the words of a vote that was cast elsewhere.
const CAST_ELSEWHERE: &str = "agreed in LoopIQ";

impl SignedApproval {
    /// The ticket that this approval makes of what is about to be done, approved and not yet used.
    ///
    /// Whether its time has passed is for [`Ticket::at`], by the ledger's clock.
    pub fn ticket(
        &self,
        subject: Subject,
        requirement: Requirement,
        reasons: Vec<Reason>,
        request_id: &str,
        trace_id: &str,
    ) -> Result<Ticket, Unusable> {
        if !self.is_for(&subject) {
            return Err(Unusable::Mismatch);
        }
        let entitled = self.others().filter(|vote| requirement.entitles(&vote.user, &vote.roles, &vote.teams));
        if entitled.count() < requirement.count as usize {
            return Err(Unusable::Pending);
        }
        let subject = Subject { approve_by_ms: self.expires_ms, ..subject };
        let digest = subject.digest().map_err(|_| Unusable::Mismatch)?;
        Ok(Ticket {
            id: self.id.clone(),
            ballots: self.ballots(&digest),
            subject,
            digest,
            requirement,
            reasons,
            asked_ms: self.issued_ms,
            request_id: request_id.to_owned(),
            trace_id: trace_id.to_owned(),
            state: State::Approved,
            ended: None,
            execute_by_ms: Some(self.expires_ms),
            consumed_by: None,
        })
    }

    fn is_for(&self, subject: &Subject) -> bool {
        let Person { issuer, user } = &subject.requester;
        let digest = action_digest(&subject.tenant, user, &subject.tool, &subject.arguments);
        self.tenant == subject.tenant
            && self.requester == *user
            && self.requester_issuer.as_ref().is_none_or(|named| named == issuer)
            && digest.is_ok_and(|digest| digest == self.action_digest)
    }

    /// Who agreed besides the requester, who never counts.
    fn others(&self) -> impl Iterator<Item = &SignedVote> {
        self.votes.iter().filter(|vote| vote.user != self.requester)
    }

    fn ballots(&self, digest: &str) -> Vec<Ballot> {
        self.others()
            .map(|vote| Ballot {
                voter: Person { issuer: vote.issuer.clone(), user: vote.user.clone() },
                roles: vote.roles.clone(),
                teams: vote.teams.clone(),
                verdict: Verdict::Approve,
                reason: CAST_ELSEWHERE.to_owned(),
                digest: digest.to_owned(),
                at_ms: self.issued_ms,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::domain::approval::PreviewBy;

    fn arguments() -> Map<String, Value> {
        json!({"release": "backend-v1.0-GCN", "points": 3}).as_object().cloned().unwrap()
    }

    fn vote(user: &str, role: &str) -> SignedVote {
        SignedVote {
            issuer: "https://loopiq".into(),
            user: user.into(),
            roles: vec![role.into()],
            teams: vec!["assurance".into()],
        }
    }

    fn approval() -> SignedApproval {
        SignedApproval {
            id: "ext_loopiq.a-1".into(),
            issuer: "https://loopiq".into(),
            tenant: "org_gcn".into(),
            requester: "ada".into(),
            requester_issuer: Some("https://idp".into()),
            action_digest: action_digest("org_gcn", "ada", "loopiq_x", &arguments()).unwrap(),
            votes: vec![vote("otto", "certification_approver")],
            issued_ms: 1_000_000,
            expires_ms: 1_900_000,
        }
    }

    fn subject() -> Subject {
        Subject {
            v: 1,
            tenant: "org_gcn".into(),
            requester: Person { issuer: "https://idp".into(), user: "ada".into() },
            client: "claude".into(),
            workflow: String::new(),
            idempotency_key: None,
            tool: "loopiq_x".into(),
            definition: "d".repeat(64),
            route: "POST /x".into(),
            arguments: arguments(),
            request: json!({"method": "POST", "path": "/x", "body": {}}),
            preview: Value::Null,
            preview_digest: String::new(),
            preview_by: PreviewBy::None,
            record_version: None,
            policy_bundle: "b".repeat(64),
            policy_data: "p".repeat(64),
            approve_by_ms: 0,
            execute_within_s: 900,
        }
    }

    fn requirement(count: u32) -> Requirement {
        Requirement {
            roles: vec!["certification_approver".into()],
            teams: Vec::new(),
            users: vec!["tess".into()],
            count,
            approve_by_s: 3600,
            execute_within_s: 900,
            preview: false,
        }
    }

    fn ticket(approval: &SignedApproval, subject: Subject, count: u32) -> Result<Ticket, Unusable> {
        approval.ticket(subject, requirement(count), Vec::new(), "req", "trace")
    }

    #[test]
    fn an_issued_approval_is_used_once_and_only_until_it_expires() {
        let ticket = ticket(&approval(), subject(), 1).unwrap();
        assert_eq!(ticket.digest, ticket.subject.digest().unwrap());
        assert!(ticket.ballots.iter().all(|ballot| ballot.digest == ticket.digest));
        assert_eq!(ticket.facts().votes[0].user, "otto");
        assert_eq!(ticket.facts().state, "approved");
        let used = ticket.clone().consumed("e-1", 1_899_999).unwrap();
        assert!(used.clone().consumed("e-1", 1_899_999).is_ok(), "the same execution may take it again");
        assert_eq!(used.consumed("e-2", 1_899_999), Err(Unusable::Spent));
        assert_eq!(ticket.consumed("e-1", 1_900_001), Err(Unusable::Expired));
    }

    #[test]
    fn one_token_makes_one_and_the_same_ticket_whenever_it_is_shown() {
        let first = ticket(&approval(), subject(), 1).unwrap();
        let again = ticket(&approval(), Subject { approve_by_ms: 7, ..subject() }, 1).unwrap();
        assert_eq!(first, again);
    }

    #[test]
    fn an_issued_approval_is_for_nobody_and_nothing_else() {
        type Turn = fn(&mut Subject);
        let changes: [(&str, Turn); 6] = [
            ("tenant", |subject| subject.tenant = "org_nordbank".into()),
            ("user", |subject| subject.requester.user = "ben".into()),
            ("issuer", |subject| subject.requester.issuer = "https://other".into()),
            ("tool", |subject| subject.tool = "loopiq_y".into()),
            ("one argument more", |subject| {
                subject.arguments.insert("force".into(), json!(true));
            }),
            ("one argument changed", |subject| {
                subject.arguments.insert("points".into(), json!(4));
            }),
        ];
        for (what, change) in changes {
            let mut other = subject();
            change(&mut other);
            assert_eq!(ticket(&approval(), other, 1), Err(Unusable::Mismatch), "{what}");
        }
        let mut by_another = approval();
        by_another.tenant = "org_nordbank".into();
        assert_eq!(ticket(&by_another, subject(), 1), Err(Unusable::Mismatch), "a tenant that the digest denies");
        let mut anybodys = approval();
        anybodys.requester_issuer = None;
        assert!(ticket(&anybodys, subject(), 1).is_ok(), "without `req_iss` the user's name is enough");
    }

    #[test]
    fn the_votes_must_be_enough_by_the_gateways_own_policy() {
        let mut approval = approval();
        assert_eq!(ticket(&approval, subject(), 2), Err(Unusable::Pending));
        approval.votes.push(vote("vic", "viewer"));
        assert_eq!(ticket(&approval, subject(), 2), Err(Unusable::Pending), "a viewer's yes counts for nothing");
        approval.votes.push(vote("ada", "certification_approver"));
        assert_eq!(ticket(&approval, subject(), 2), Err(Unusable::Pending), "nor does the requester's own");
        approval.votes.push(vote("tess", "tenant_admin"));
        assert_eq!(ticket(&approval, subject(), 2).unwrap().ballots.len(), 3, "and yet it is kept");
    }
}

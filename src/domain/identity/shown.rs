//! What a request shows of who makes it, before anything of it is believed.
//!
//! Promises: every value of every header that may name somebody is here, so that two of them are seen
//! to be two. Never decides. Filled by `pep`; read by `adapters::keys`.

use crate::domain::identity::ClientCertificate;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::token;

/// Who a mediated request is for.
pub const USER_HEADER: &str = "x-loopiq-user";
/// And in which organisation.
pub const TENANT_HEADER: &str = "x-loopiq-tenant";
/// Their organisation roles, separated by commas.
pub const ROLES_HEADER: &str = "x-loopiq-roles";
/// Their roles in teams, as `team=role`, separated by commas.
pub const TEAMS_HEADER: &str = "x-loopiq-teams";

/// Every value of every header that may name somebody, and the connection's certificate.
#[derive(Debug, Clone, Default)]
pub struct Shown<'a> {
    /// `Authorization`.
    pub authorization: Vec<&'a str>,
    /// `X-LoopIQ-User`.
    pub user: Vec<&'a str>,
    /// `X-LoopIQ-Tenant`.
    pub tenant: Vec<&'a str>,
    /// `X-LoopIQ-Roles`.
    pub roles: Vec<&'a str>,
    /// `X-LoopIQ-Teams`.
    pub teams: Vec<&'a str>,
    /// The verified certificate of the connection.
    pub certificate: Option<&'a ClientCertificate>,
}

impl<'a> Shown<'a> {
    /// A bearer token alone.
    #[must_use]
    pub fn bearing(authorization: Vec<&'a str>) -> Self {
        Self { authorization, ..Self::default() }
    }

    /// The bearer token; there must be one.
    pub fn bearer(&self) -> Result<&'a str, AuthFault> {
        token::credentials(&self.authorization)
    }
}

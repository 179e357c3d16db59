//! The part of the file about upstream MCP servers.
//!
//! Promises: every field has its default here. Never checks meaning. Read by [`crate::config`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::upstream::Trust;

section! {
    /// An upstream MCP server whose tools, prompts and resources are passed on under policy.
    RawUpstream {
        /// Its name: what policies, records and the names of its accepted definitions go by.
        name: String = String::new();
        /// Its MCP endpoint, `http://host:port/path` or `https://…`.
        url: String = String::new();
        /// What is put before the names of its tools and prompts. Absent: the name and `_`. Empty: nothing.
        prefix: Option<String> = None;
        /// How often it is asked again what it offers.
        refresh: String = "5m".into();
        /// Time to connect.
        connect: String = "5s".into();
        /// Time for a whole call.
        timeout: String = "30s".into();
        /// Whether its host name may lead to a private address.
        private_addresses: bool = false;
        /// File with the certificates (PEM) of those who may vouch for it. Empty: whom the system trusts.
        ca_file: String = String::new();
        /// File with the gateway's own certificate and its chain (PEM), where it wants one.
        certificate_file: String = String::new();
        /// File with the key of that certificate (PEM).
        key_file: String = String::new();
        /// What the gateway shows it. The client's own token is never passed on.
        credential: RawCredential = RawCredential::default();
        /// `first`: what is seen for the first time is accepted, and from then on only that. `listed`: everything
        /// waits for `loopgate catalog upstream accept`.
        trust: Trust = Trust::First;
        /// File of the accepted definitions. Empty: `../data/upstreams/NAME.json`.
        accepted: String = String::new();
        /// Whether its own word counts for what its tools do (`readOnlyHint`, `destructiveHint`).
        believe_hints: bool = false;
        /// What its tools are taken for where `tools` does not say: a write of high impact, if this does not either.
        defaults: RawClass = RawClass::default();
        /// What single tools are taken for, by their names there.
        tools: BTreeMap<String, RawUpstreamTool> = BTreeMap::new();
        /// Whether its prompts are passed on, as the tool `NAME.prompts` of policies.
        prompts: bool = true;
        /// Whether its resources are passed on, as the tool `NAME.resources` of policies.
        resources: bool = true;
    }
}

section! {
    /// What the gateway shows an upstream server.
    RawCredential {
        /// `none`, `static`: a service credential, `assertion`: a short-lived JWT signed by the gateway that names user and tenant.
        mode: RawCredentialMode = RawCredentialMode::None;
        /// File with the credential of mode `static`.
        secret_file: String = String::new();
        /// `aud` of the assertion. Empty: the server's name.
        audience: String = String::new();
        /// How long an assertion is good.
        lifetime: String = "60s".into();
    }
}

/// What the gateway shows an upstream server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawCredentialMode {
    /// Nothing.
    None,
    /// A service credential.
    Static,
    /// A short-lived JWT signed by the gateway.
    Assertion,
}

section! {
    /// What tools are taken for.
    RawClass {
        /// `read`, `write` or `admin`.
        effect: Option<Effect> = None;
        /// `low` or `high`; high impact needs people.
        impact: Option<Impact> = None;
        /// Family that policies speak of. Absent: the server's name.
        family: Option<String> = None;
    }
}

section! {
    /// What one tool is taken for.
    RawUpstreamTool {
        /// `read`, `write` or `admin`.
        effect: Option<Effect> = None;
        /// `low` or `high`; high impact needs people.
        impact: Option<Impact> = None;
        /// Family that policies speak of.
        family: Option<String> = None;
        /// Whether it is left out.
        hidden: bool = false;
        /// JSON pointers (`*` allowed) to what names a record's tenant in the answer.
        tenant_fields: Option<Vec<String>> = None;
        /// JSON pointers to ids of the records that the answer names.
        record_ids: Vec<String> = Vec::new();
        /// JSON pointers to arguments that name a tenant.
        tenant_arguments: Vec<String> = Vec::new();
        /// JSON pointers to arguments that audit must not keep in clear.
        sensitive: Vec<String> = Vec::new();
    }
}

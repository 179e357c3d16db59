//! Sessions that LoopIQ's backend mediates, and tokens that are bound to a certificate: over real mutual TLS.

use std::fs;

use loopgate::app;
use loopgate::domain::identity::dev::DevIssuer;
use rcgen::BasicConstraints;
use rcgen::Certificate;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use serde_json::json;

use crate::authorities::BOUND;
use crate::authorities::OauthServer;
use crate::harness::World;
use crate::harness::base64url;
use crate::harness::claims;
use crate::harness::sign;
use crate::message::Message;

/// An authority, and what it vouches for.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name and its key.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A gateway behind TLS that asks clients for certificates, and clients that have one.
struct Secured {
    world: World,
    authority: Authority,
}

impl Secured {
    async fn start(server: &OauthServer) -> Self {
        let mut world = World::with(server.setup()).await;
        let authority = Authority::new();
        let (certificate, key) = authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
        fs::write(world.path("ca.pem"), authority.certificate.pem()).unwrap();
        fs::write(world.path("door.pem"), certificate.pem()).unwrap();
        fs::write(world.path("door.key"), key.serialize_pem()).unwrap();
        let tls = "tls: {certificate: door.pem, key: door.key, clients: {ca: ca.pem}}, admin: ";
        world.edit("gateway.yaml", "admin: ", tls);
        world.start_again().await;
        assert!(world.mcp.starts_with("https://"), "{}", world.mcp);
        Self { world, authority }
    }

    /// A client, with a certificate for this name if there is one; and its certificate's SHA-256.
    fn client(&self, name: Option<&str>) -> (reqwest::Client, Vec<u8>) {
        let trusted = reqwest::Certificate::from_pem(self.authority.certificate.pem().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]);
        let mut digest = Vec::new();
        if let Some(name) = name {
            let (certificate, key) = self.authority.issue(name, ExtendedKeyUsagePurpose::ClientAuth);
            digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der()).as_ref().to_vec();
            let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        (builder.build().unwrap(), digest)
    }

    fn ask(&self, client: &reqwest::Client, headers: &[(&str, &str)]) -> Message {
        let ask = Message::new(client, &self.world.mcp, "tools/call").param("name", "loopiq_search_releases");
        headers.iter().fold(ask.param("arguments", json!({})), |ask, (name, value)| ask.header(name, value))
    }
}

const ADA: [(&str, &str); 3] =
    [("x-loopiq-user", "ada"), ("x-loopiq-tenant", "org_gcn"), ("x-loopiq-roles", "release_manager")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopiqs_certificate_vouches_for_whom_the_headers_name_and_no_other_does() {
    let server = OauthServer::start().await;
    let secured = Secured::start(&server).await;
    let (loopiq, _) = secured.client(Some("helix.internal"));
    let (agent, _) = secured.client(Some("agent.internal"));
    let (nobody, _) = secured.client(None);
    let answer = secured.ask(&loopiq, &ADA).send().await;
    answer.done();
    assert_eq!((&answer.audit()["user"], &answer.audit()["tenant"]), (&json!("ada"), &json!("org_gcn")));
    let record = secured.world.record(answer.audit()).to_string();
    assert!(record.contains("https://mediated.it.invalid") && record.contains("helix"), "{record}");
    secured.world.forget().await;

    let bearer = format!("Bearer {}", secured.world.token("vic"));
    let [user, tenant, roles] = ADA;
    let rows = [
        ("another certificate", &agent, ADA.to_vec(), "absent"),
        ("no certificate", &nobody, ADA.to_vec(), "absent"),
        ("nobody named", &loopiq, vec![tenant, roles], "absent"),
        ("a bearer besides", &loopiq, vec![user, tenant, ("authorization", &bearer)], "two_identities"),
        ("no tenant", &loopiq, vec![user, roles], "missing_claim"),
        ("two users", &loopiq, vec![user, ("x-loopiq-user", "tess"), tenant], "bad_claim"),
        ("the same user twice", &loopiq, vec![user, user, tenant], "bad_claim"),
        ("two tenants", &loopiq, vec![user, tenant, ("x-loopiq-tenant", "org_nordbank")], "bad_claim"),
        ("two tenants in one", &loopiq, vec![user, ("x-loopiq-tenant", "org_gcn, org_nordbank")], "bad_claim"),
        ("an empty user", &loopiq, vec![("x-loopiq-user", ""), tenant], "bad_claim"),
        ("roles twice", &loopiq, vec![user, tenant, roles, ("x-loopiq-roles", "tenant_admin")], "bad_claim"),
        ("a team without a role", &loopiq, vec![user, tenant, ("x-loopiq-teams", "payments")], "bad_claim"),
    ];
    let causes: Vec<&str> = rows.iter().map(|(.., cause)| *cause).collect();
    for (wrong, client, headers, cause) in rows {
        let answer = secured.ask(client, &headers).send().await;
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{wrong}: {}", answer.text);
        println!("mediated {wrong:<30} {} {cause}", answer.status);
    }
    let refusals = secured.world.journal().into_iter().map(|record| record["unmapped"]["loopgate"]["refusal"].clone());
    let noted: Vec<String> =
        refusals.filter(|one| one["status"] == 401).map(|one| one["detail"].as_str().unwrap().to_owned()).collect();
    assert_eq!(noted, causes);
    assert!(secured.world.seen().await.is_empty());

    // A bearer with names beside it, over any other certificate, is the bearer's alone.
    let vic = secured.ask(&agent, &[user, ("authorization", &bearer)]).send().await;
    assert_eq!(vic.audit()["user"], "vic", "{}", vic.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_token_is_good_over_its_own_certificate_alone() {
    let server = OauthServer::start().await;
    let secured = Secured::start(&server).await;
    let (own, digest) = secured.client(Some("somebody.internal"));
    let (thief, _) = secured.client(Some("somebody.internal"));
    let (agent, _) = secured.client(Some("agent.internal"));
    let (nobody, _) = secured.client(None);
    let people = &secured.world.people;
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": people.key.kid()});
    let now = app::now_s();
    let claims_of = |iss: &str| json!({"iss": iss, "aud": people.audience, "sub": "ada", "iat": now, "exp": now + 600, "tenants": ["org_gcn"], "roles": ["release_manager"]});
    let mut bound = claims_of(&people.issuer);
    bound["cnf"] = json!({"x5t#S256": base64url(&digest)});
    let bound = format!("Bearer {}", sign(&people.key, &header, &bound));
    for _ in 0..2 {
        secured.ask(&own, &[("authorization", &bound)]).send().await.done();
        for other in [&thief, &nobody] {
            let refused = secured.ask(other, &[("authorization", &bound)]).send().await;
            assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{}", refused.text);
        }
    }
    // An issuer that lists certificates: its tokens come over these.
    let listed = DevIssuer { key: people.key.clone(), issuer: BOUND.to_owned(), audience: people.audience.clone() };
    let listed = format!("Bearer {}", listed.mint(&claims("ada"), now, 600, "listed"));
    secured.ask(&agent, &[("authorization", &listed)]).send().await.done();
    for other in [&own, &nobody] {
        assert_eq!(secured.ask(other, &[("authorization", &listed)]).send().await.status, 401);
    }
}

//! Every kind of credential: the good one gets in as whom it names, and nothing else does.
//!
//! Run with `--nocapture` to read the table.

use aws_lc_rs::hmac;
use loopgate::app;
use loopgate::domain::identity::signing::SigningKey;
use serde_json::Value;
use serde_json::json;

use crate::authorities::BOUND;
use crate::authorities::HELIX;
use crate::authorities::LOOPIQ;
use crate::authorities::OPAQUE;
use crate::authorities::OauthServer;
use crate::authorities::SECRET;
use crate::harness::AUDIENCE;
use crate::harness::PEOPLE;
use crate::harness::World;
use crate::harness::base64url;
use crate::harness::sign;
use crate::message::Message;

const SERVICES: &str = "https://services.it.invalid";

/// One bad credential: of which kind, what is wrong with it, its headers, and the cause that is noted.
struct Bad {
    kind: &'static str,
    wrong: &'static str,
    headers: Vec<(&'static str, String)>,
    cause: &'static str,
}

/// Those who make credentials, good and bad.
struct Forge<'w> {
    world: &'w World,
    now: i64,
    table: Vec<Bad>,
}

impl Forge<'_> {
    fn claims(&self, iss: &str) -> Value {
        json!({
            "iss": iss, "aud": AUDIENCE, "sub": "ada", "iat": self.now, "exp": self.now + 240, "jti": "one",
            "tenants": ["org_gcn"], "roles": ["release_manager"],
        })
    }

    /// Claims with one of them replaced; taken out when the value is null.
    fn but(&self, iss: &str, claim: &str, value: Value) -> Value {
        let mut claims = self.claims(iss);
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        claims
    }

    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.world.people.key.kid()})
    }

    fn person(&self, claims: &Value) -> String {
        sign(&self.world.people.key, &self.header(), claims)
    }

    fn service(&self, claims: &Value) -> String {
        let key = &self.world.services.key;
        sign(key, &json!({"alg": "EdDSA", "typ": "at+jwt", "kid": key.kid()}), claims)
    }

    fn session(&self, typ: &str, claims: &Value) -> String {
        let key = &self.world.helix.key;
        sign(key, &json!({"alg": "EdDSA", "typ": typ, "kid": key.kid()}), claims)
    }

    fn shared(secret: &str, claims: &Value) -> String {
        let message = format!("{}.{}", base64url(json!({"alg": "HS256"}).to_string()), base64url(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        format!("{message}.{}", base64url(tag))
    }

    fn bad(&mut self, kind: &'static str, wrong: &'static str, token: &str, cause: &'static str) {
        self.table.push(Bad { kind, wrong, headers: vec![("authorization", format!("Bearer {token}"))], cause });
    }
}

fn no_token(forge: &mut Forge<'_>) {
    let good = format!("Bearer {}", forge.person(&forge.claims(PEOPLE)));
    let named = |more: Vec<(&'static str, String)>| {
        let headers = [("x-loopiq-user", "ada".to_owned()), ("x-loopiq-tenant", "org_gcn".to_owned())];
        headers.into_iter().chain(more).collect::<Vec<_>>()
    };
    let table = [
        ("nothing at all", vec![], "absent"),
        ("another scheme", vec![("authorization", "Basic YWRhOmFkYQ==".to_owned())], "scheme"),
        ("a scheme alone", vec![("authorization", "Bearer".to_owned())], "scheme"),
        ("a token alone", vec![("authorization", good.replace("Bearer ", ""))], "scheme"),
        ("two tokens in one", vec![("authorization", format!("{good}, {good}"))], "malformed"),
        ("a cookie", vec![("cookie", good.clone())], "absent"),
        ("another header", vec![("x-access-token", good)], "absent"),
        ("a name without a certificate", named(vec![]), "absent"),
        ("a name and roles without a certificate", named(vec![("x-loopiq-roles", "tenant_admin".into())]), "absent"),
        (
            "a certificate told by a header",
            named(vec![("x-forwarded-client-cert", "DNS=helix.internal".into())]),
            "absent",
        ),
    ];
    for (wrong, headers, cause) in table {
        forge.table.push(Bad { kind: "none", wrong, headers, cause });
    }
}

fn claims_of_a_jwt(forge: &mut Forge<'_>) {
    let now = forge.now;
    let digest = base64url([7; 32]);
    for (wrong, claim, value, cause) in [
        ("expired", "exp", json!(now - 3600), "expired"),
        ("expired in the first year", "exp", json!(1), "expired"),
        ("without an end", "exp", Value::Null, "missing_claim"),
        ("an end that is text", "exp", json!("never"), "bad_claim"),
        ("an end with a fraction", "exp", json!(4_000_000_000.5), "bad_claim"),
        ("an end before 1970", "exp", json!(-1), "bad_claim"),
        ("not yet valid", "nbf", json!(now + 3600), "not_yet_valid"),
        ("issued tomorrow", "iat", json!(now + 86400), "not_yet_valid"),
        ("for another audience", "aud", json!("another-service"), "wrong_audience"),
        ("for our audience and more text", "aud", json!(format!("{AUDIENCE}/")), "wrong_audience"),
        ("for nobody", "aud", json!([]), "wrong_audience"),
        ("without an audience", "aud", Value::Null, "missing_claim"),
        ("an audience that is a number", "aud", json!(7), "bad_claim"),
        ("an audience among odd ones", "aud", json!([AUDIENCE, 7]), "bad_claim"),
        ("of an unknown issuer", "iss", json!("https://evil.invalid"), "unknown_issuer"),
        ("of an issuer with a slash more", "iss", json!(format!("{PEOPLE}/")), "unknown_issuer"),
        ("without an issuer", "iss", Value::Null, "missing_claim"),
        ("of two issuers", "iss", json!([PEOPLE]), "bad_claim"),
        ("of the issuer of services", "iss", json!(SERVICES), "unknown_kid"),
        ("of an issuer that is asked, which knows nothing of it", "iss", json!(OPAQUE), "inactive"),
        ("over no certificate, of an issuer that wants one", "iss", json!(BOUND), "other_certificate"),
        ("without a user", "sub", Value::Null, "missing_claim"),
        ("a user without a name", "sub", json!(""), "bad_claim"),
        ("a user that is a number", "sub", json!(1), "bad_claim"),
        ("a user with what does not show", "sub", json!("ad\u{200B}a"), "bad_claim"),
        ("a user behind a space", "sub", json!(" ada"), "bad_claim"),
        ("tenants that are a number", "tenants", json!(1), "bad_claim"),
        ("a tenant that is a path", "tenants", json!(["../org_gcn"]), "bad_claim"),
        ("two tenants in one", "tenants", json!("org_gcn,org_nordbank"), "bad_claim"),
        ("an active tenant that is none", "active_tenant", json!("a b"), "bad_claim"),
        ("roles that are text", "roles", json!("tenant_admin"), "bad_claim"),
        ("teams that are a list", "teams", json!(["payments"]), "bad_claim"),
        ("bound to a key", "cnf", json!({"jkt": digest}), "bad_claim"),
        ("bound to another certificate", "cnf", json!({"x5t#S256": digest}), "other_certificate"),
        ("an id token by its hash", "at_hash", json!("x"), "typ"),
        ("a refresh token by its use", "token_use", json!("refresh"), "typ"),
        ("an id token by its type", "typ", json!("ID"), "typ"),
    ] {
        let token = forge.person(&forge.but(PEOPLE, claim, value));
        forge.bad("jwt", wrong, &token, cause);
    }
}

fn header_of_a_jwt(forge: &mut Forge<'_>) {
    let key = &forge.world.people.key;
    let own = SigningKey::generate(&[9; 32]).unwrap();
    for (wrong, member, value, cause) in [
        ("alg none", "alg", json!("none"), "alg_none"),
        ("alg NONE", "alg", json!("NONE"), "alg_none"),
        ("no alg", "alg", Value::Null, "alg_none"),
        ("alg in lower case", "alg", json!("eddsa"), "alg_not_allowed"),
        ("alg HS256", "alg", json!("HS256"), "alg_not_allowed"),
        ("alg RS256", "alg", json!("RS256"), "alg_not_allowed"),
        ("alg that is a list", "alg", json!(["EdDSA"]), "malformed"),
        ("an unknown key", "kid", json!("unheard-of"), "unknown_kid"),
        ("a key that is a path", "kid", json!("../../etc/passwd"), "unknown_kid"),
        ("a key without a name", "kid", json!(""), "malformed"),
        ("a key that is a number", "kid", json!(1), "malformed"),
        ("critical members", "crit", json!(["exp"]), "crit"),
        ("an unencoded payload", "b64", json!(false), "crit"),
        ("keys at its own address", "jku", json!("https://evil.invalid/jwks"), "key_in_header"),
        ("a key of its own", "jwk", own.public_jwk(), "key_in_header"),
        ("a certificate of its own", "x5c", json!(["MIIB"]), "key_in_header"),
        ("certificates at its own address", "x5u", json!("https://evil.invalid/x5u"), "key_in_header"),
        ("compressed", "zip", json!("DEF"), "malformed"),
        ("nested", "cty", json!("JWT"), "malformed"),
        ("typ of an approval", "typ", json!("approval+jwt"), "typ"),
        ("typ of the gateway's own assertions", "typ", json!("loopiq-assertion+jwt"), "typ"),
        ("typ of a Helix session", "typ", json!("loopiq-session+jwt"), "typ"),
        ("typ that is a number", "typ", json!(1), "malformed"),
    ] {
        let mut header = forge.header();
        if value.is_null() {
            header.as_object_mut().unwrap().remove(member);
        } else {
            header[member] = value;
        }
        let token = sign(key, &header, &forge.claims(PEOPLE));
        forge.bad("jwt", wrong, &token, cause);
    }
}

fn form_of_a_jwt(forge: &mut Forge<'_>) {
    let good = forge.person(&forge.claims(PEOPLE));
    let (front, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = front.split_once('.').unwrap();
    let tess = base64url(forge.but(PEOPLE, "sub", json!("tess")).to_string());
    let twice = forge.claims(PEOPLE).to_string().replacen('{', "{\"sub\":\"tess\",", 1);
    let stranger = SigningKey::generate(&[7; 32]).unwrap();
    let other = forge.person(&forge.but(PEOPLE, "jti", json!("two")));
    let public = String::from_utf8_lossy(&base64url(forge.world.people.key.public_key()).into_bytes()).into_owned();
    let rows = [
        (
            "signed by a stranger under a known key's name",
            sign(&stranger, &forge.header(), &forge.claims(PEOPLE)),
            "bad_signature",
        ),
        ("another payload under the same signature", format!("{header}.{tess}.{signature}"), "bad_signature"),
        ("another token's signature", format!("{front}.{}", other.rsplit('.').next().unwrap()), "bad_signature"),
        ("without a signature", format!("{front}."), "malformed"),
        ("half a signature", format!("{front}.{}", signature.chars().take(40).collect::<String>()), "bad_signature"),
        ("a claim twice", format!("{header}.{}.{signature}", base64url(twice)), "malformed"),
        ("claims that are no object", format!("{header}.{}.{signature}", base64url("[]")), "malformed"),
        ("claims that are no JSON", format!("{header}.{}.{signature}", base64url("sub=ada")), "malformed"),
        ("padded", format!("{front}.{signature}=="), "malformed"),
        ("longer than may be", format!("{header}.{}.{signature}", base64url("x".repeat(9_000))), "too_large"),
        ("two parts", front.to_owned(), "inactive"),
        ("four parts", format!("{good}.{signature}"), "inactive"),
        ("HS256 with the public key for a secret", Forge::shared(&public, &forge.claims(PEOPLE)), "alg_not_allowed"),
    ];
    for (wrong, token, cause) in rows {
        forge.bad("jwt", wrong, &token, cause);
    }
}

fn other_kinds(forge: &mut Forge<'_>) {
    let now = forge.now;
    let service = |claim: &str, value: Value| forge.service(&forge.but(SERVICES, claim, value));
    let loopiq = |claim: &str, value: Value| Forge::shared(SECRET, &forge.but(LOOPIQ, claim, value));
    let session = |claim: &str, value: Value| forge.session("loopiq-session+jwt", &forge.but(HELIX, claim, value));
    let rows = [
        ("service", "for another tenant", service("tenants", json!(["org_nordbank"])), "tenant_not_allowed"),
        (
            "service",
            "for its tenant and another",
            service("tenants", json!(["org_gcn", "org_nordbank"])),
            "tenant_not_allowed",
        ),
        ("service", "by the key of people", forge.person(&forge.claims(SERVICES)), "unknown_kid"),
        ("service", "expired", service("exp", json!(now - 3600)), "expired"),
        (
            "loopiq",
            "with another secret",
            Forge::shared("another secret of thirty-two bytes", &forge.claims(LOOPIQ)),
            "bad_signature",
        ),
        ("loopiq", "signed by a known key of others", forge.person(&forge.claims(LOOPIQ)), "alg_not_allowed"),
        (
            "loopiq",
            "its secret under another issuer's name",
            Forge::shared(SECRET, &forge.claims(PEOPLE)),
            "alg_not_allowed",
        ),
        ("loopiq", "expired", loopiq("exp", json!(now - 3600)), "expired"),
        ("loopiq", "for another audience", loopiq("aud", json!("helix")), "wrong_audience"),
        ("helix", "an access token", forge.session("at+jwt", &forge.claims(HELIX)), "typ"),
        ("helix", "an approval", forge.session("approval+jwt", &forge.claims(HELIX)), "typ"),
        ("helix", "living for an hour", session("exp", json!(now + 3600)), "too_long_lived"),
        ("helix", "without a beginning", session("iat", Value::Null), "missing_claim"),
        ("helix", "of two tenants", session("tenants", json!(["org_gcn", "org_nordbank"])), "bad_claim"),
        ("helix", "of no tenant", session("tenants", Value::Null), "bad_claim"),
        ("helix", "of a tenant it may not vouch for", session("tenants", json!(["org_other"])), "tenant_not_allowed"),
        ("helix", "without a user", session("sub", Value::Null), "missing_claim"),
        ("helix", "expired", session("exp", json!(now - 100)), "expired"),
    ];
    for (kind, wrong, token, cause) in rows {
        forge.bad(kind, wrong, &token, cause);
    }
}

fn opaque_tokens(forge: &mut Forge<'_>, server: &OauthServer) {
    let now = forge.now;
    for (wrong, claim, value, cause) in [
        ("taken back", "active", json!(false), "inactive"),
        ("active in words", "active", json!("true"), "bad_claim"),
        ("of which nothing is said", "active", Value::Null, "missing_claim"),
        ("for another audience", "aud", json!("another-service"), "wrong_audience"),
        ("without an audience", "aud", Value::Null, "missing_claim"),
        ("expired", "exp", json!(now - 3600), "expired"),
        ("without an end", "exp", Value::Null, "missing_claim"),
        ("not yet valid", "nbf", json!(now + 3600), "not_yet_valid"),
        ("of another issuer", "iss", json!(PEOPLE), "unknown_issuer"),
        ("a refresh token", "token_type", json!("refresh_token"), "typ"),
        ("without a user", "sub", Value::Null, "missing_claim"),
        ("bound to a key", "cnf", json!({"jkt": "x"}), "bad_claim"),
    ] {
        let mut answer = forge.claims(OPAQUE);
        answer["active"] = json!(true);
        answer[claim] = value;
        answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let token = format!("opaque-{}", forge.table.len());
        server.knows(&token, answer);
        forge.bad("opaque", wrong, &token, cause);
    }
    forge.bad("opaque", "made up", "2YotnFZFEjr1zCsicMWpAA", "inactive");
}

fn send(world: &World, headers: &[(&'static str, String)]) -> Message {
    let ask = Message::new(&world.http, &world.mcp, "tools/list");
    headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
}

async fn counted(world: &World, cause: &str) -> f64 {
    world.metric(&format!("loopgate_credentials_refused_total{{cause=\"{cause}\"}}")).await.unwrap_or_default()
}

/// What is noted of every refusal, in order.
fn noted(world: &World) -> Vec<String> {
    let refusals = world.journal().into_iter().map(|record| record["unmapped"]["loopgate"]["refusal"].clone());
    refusals.filter(|one| one["status"] == 401).map(|one| one["detail"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_good_credential_of_each_kind_gets_in_as_whom_it_names() {
    let server = OauthServer::start().await;
    let world = World::with(server.setup()).await;
    let forge = Forge { world: &world, now: app::now_s(), table: Vec::new() };
    let mut answer = forge.claims(OPAQUE);
    answer["active"] = json!(true);
    server.knows("an-opaque-token", answer);
    let pipeline = forge.but(SERVICES, "sub", json!("svc-pipeline"));
    for (kind, token, user) in [
        ("oauth", forge.person(&forge.claims(PEOPLE)), "ada"),
        ("loopiq", Forge::shared(SECRET, &forge.claims(LOOPIQ)), "ada"),
        ("helix", forge.session("loopiq-session+jwt", &forge.claims(HELIX)), "ada"),
        ("oauth", "an-opaque-token".to_owned(), "ada"),
        ("service_account", forge.service(&pipeline), "svc-pipeline"),
    ] {
        let ask = Message::new(&world.http, &world.mcp, "tools/call").param("name", "loopiq_search_releases");
        let answer = ask.param("arguments", json!({})).header("authorization", &format!("Bearer {token}")).send().await;
        answer.done();
        assert_eq!((&answer.audit()["user"], &answer.audit()["tenant"]), (&json!(user), &json!("org_gcn")), "{kind}");
        assert!(world.record(answer.audit()).to_string().contains(kind), "{kind}");
    }
    let (form, proof) = server.asked().into_iter().find(|(form, _)| form["token"] == "an-opaque-token").unwrap();
    assert_eq!(form["token_type_hint"], "access_token");
    assert!(proof.starts_with("Basic "), "the gateway says who it is");
    // A signed token is shown to nobody.
    assert!(server.asked().iter().all(|(form, _)| !form["token"].starts_with("eyJ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_stale_confused_or_malformed_credential_gets_in() {
    let server = OauthServer::start().await;
    let world = World::with(server.setup()).await;
    let mut forge = Forge { world: &world, now: app::now_s(), table: Vec::new() };
    no_token(&mut forge);
    claims_of_a_jwt(&mut forge);
    header_of_a_jwt(&mut forge);
    form_of_a_jwt(&mut forge);
    other_kinds(&mut forge);
    opaque_tokens(&mut forge, &server);
    let metadata = world.mcp.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let mut odd = Vec::new();
    for Bad { kind, wrong, headers, cause } in &forge.table {
        let before = counted(&world, cause).await;
        let answer = send(&world, headers).send().await;
        let presented = headers.iter().any(|(name, _)| *name == "authorization");
        let (code, words) = match *cause {
            "expired" => ("token_expired", "the token has expired"),
            _ => ("unauthenticated", "the token is not valid here"),
        };
        let error = format!("error=\"invalid_token\", error_description=\"{words}\", ");
        let challenge = format!("Bearer {}resource_metadata=\"{metadata}\"", if presented { &error } else { "" });
        let said = (answer.status, answer.text.as_str(), answer.header("www-authenticate"));
        let body = format!("{{\"error\":\"{code}\"}}");
        if said != (401, body.as_str(), challenge.as_str()) || counted(&world, cause).await <= before {
            odd.push(format!("{kind}, {wrong}, {cause}: {said:?}"));
        }
        println!("{kind:<8} {wrong:<55} {} {code:<16} {cause}", answer.status);
    }
    let causes: Vec<&str> = forge.table.iter().map(|bad| bad.cause).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert_eq!(noted(&world), causes, "each has a record with its cause");
    assert!(causes.len() >= 100, "{}", causes.len());
    assert!(world.seen().await.is_empty(), "nothing reached LoopIQ");
    println!("{} credentials, none of which gets in", causes.len());
}

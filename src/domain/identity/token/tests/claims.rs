//! What a token claims: times, issuer, audience, and who it stands for.

use serde_json::{Value, json};

use super::{bad, check, main_issuer};
use crate::domain::identity::forge::{AUD, ED, ISS, NOW, claims, claims_but, issuer, settings};
use crate::domain::identity::token::authenticate;

#[test]
fn times_are_whole_seconds_and_count() {
    let at = |claim: &str, value: Value| ED.token(&claims_but(claim, value));
    let raw = |claim: &str, number: &str| {
        let text = claims_but(claim, json!("@")).to_string().replace("\"@\"", number);
        ED.sign(&ED.header().to_string(), &text)
    };
    let mut table = vec![
        bad("exp missing", at("exp", Value::Null), "missing_claim"),
        bad("exp null", raw("exp", "null"), "bad_claim"),
        bad("exp long ago", at("exp", json!(1)), "expired"),
        bad("exp 0", at("exp", json!(0)), "expired"),
        bad("exp at the end of the leeway", at("exp", json!(NOW - 60)), "expired"),
        bad("exp infinite", raw("exp", "1e309"), "malformed"),
        bad("exp beyond 2^53", raw("exp", "9007199254740993"), "malformed"),
        bad("nbf beyond the leeway", at("nbf", json!(NOW + 61)), "not_yet_valid"),
        bad("iat beyond the leeway", at("iat", json!(NOW + 61)), "not_yet_valid"),
    ];
    for claim in ["exp", "nbf", "iat"] {
        for value in
            [json!("1900000000"), json!(true), json!([NOW + 600]), json!({}), json!(-1), json!(1_900_000_000.5)]
        {
            table.push(bad(format!("{claim} {value}"), at(claim, value), "bad_claim"));
        }
        table.push(bad(format!("{claim} with a fraction of zero"), raw(claim, "1900000000.0"), "bad_claim"));
        table.push(bad(format!("{claim} with an exponent"), raw(claim, "19e8"), "bad_claim"));
    }
    let huge = authenticate(&raw("exp", "1e308"), &main_issuer(), NOW).unwrap_err();
    assert!(["malformed", "bad_claim"].contains(&huge.cause()), "{huge}");
    check(table, &main_issuer());

    for good in
        [at("exp", json!(NOW - 59)), at("nbf", json!(NOW + 60)), at("iat", json!(NOW + 60)), at("nbf", Value::Null)]
    {
        assert!(authenticate(&good, &main_issuer(), NOW).is_ok(), "within the leeway");
    }
}

#[test]
fn a_token_may_not_outlive_what_its_issuer_is_allowed() {
    let mut short = settings();
    short.lifetime_max_s = Some(900);
    let issuers = [issuer(short)];
    assert!(authenticate(&ED.token(&claims()), &issuers, NOW).is_ok());
    check(
        vec![
            bad("a day", ED.token(&claims_but("exp", json!(NOW + 86_400))), "too_long_lived"),
            bad("no iat", ED.token(&claims_but("iat", Value::Null)), "missing_claim"),
        ],
        &issuers,
    );
}

#[test]
fn issuer_and_audience_are_compared_byte_for_byte() {
    let iss = |value: Value| ED.token(&claims_but("iss", value));
    let aud = |value: Value| ED.token(&claims_but("aud", value));
    check(
        vec![
            bad("iss missing", iss(Value::Null), "missing_claim"),
            bad("iss a number", iss(json!(1)), "bad_claim"),
            bad("iss an array", iss(json!([ISS])), "bad_claim"),
            bad("iss with a trailing slash", iss(json!(format!("{ISS}/"))), "unknown_issuer"),
            bad("iss in another case", iss(json!(ISS.to_uppercase())), "unknown_issuer"),
            bad("iss over http", iss(json!(ISS.replace("https", "http"))), "unknown_issuer"),
            bad("iss with a default port", iss(json!("https://idp.example:443/realms/main")), "unknown_issuer"),
            bad("iss of a sibling realm", iss(json!("https://idp.example/realms/other")), "unknown_issuer"),
            bad("iss empty", iss(json!("")), "unknown_issuer"),
            bad("aud missing", aud(Value::Null), "missing_claim"),
            bad("aud another", aud(json!("https://other.example/mcp")), "wrong_audience"),
            bad("aud a prefix of ours", aud(json!("https://gw.example")), "wrong_audience"),
            bad("aud longer than ours", aud(json!(format!("{AUD}/admin"))), "wrong_audience"),
            bad("aud with a trailing slash", aud(json!(format!("{AUD}/"))), "wrong_audience"),
            bad("aud in another case", aud(json!(AUD.to_uppercase())), "wrong_audience"),
            bad("aud the client", aud(json!("claude")), "wrong_audience"),
            bad("aud empty", aud(json!("")), "wrong_audience"),
            bad("aud an empty array", aud(json!([])), "wrong_audience"),
            bad("aud several others", aud(json!(["a", "b"])), "wrong_audience"),
            bad("aud a joined list", aud(json!(format!("{AUD} other"))), "wrong_audience"),
            bad("aud a number", aud(json!(1)), "bad_claim"),
            bad("aud ours among numbers", aud(json!([AUD, 1])), "bad_claim"),
            bad("aud an object", aud(json!({AUD: true})), "bad_claim"),
        ],
        &main_issuer(),
    );
    assert!(authenticate(&aud(json!(["other", AUD])), &main_issuer(), NOW).is_ok());
}

#[test]
fn a_claim_of_another_type_is_refused_and_never_converted() {
    let at = |claim: &str, value: Value| ED.token(&claims_but(claim, value));
    let mut table = vec![
        bad("sub missing", at("sub", Value::Null), "missing_claim"),
        bad("sub with a newline", at("sub", json!("ada\nroot")), "bad_claim"),
        bad("sub oversize", at("sub", json!("a".repeat(257))), "bad_claim"),
        bad("sub with a space before", at("sub", json!(" ada")), "bad_claim"),
        bad("sub with a space behind", at("sub", json!("ada ")), "bad_claim"),
        bad("sub with a no-break space behind", at("sub", json!("ada\u{a0}")), "bad_claim"),
        bad("sub with a zero-width space", at("sub", json!("a\u{200b}da")), "bad_claim"),
        bad("sub with a word joiner", at("sub", json!("ada\u{2060}")), "bad_claim"),
        bad("sub with a soft hyphen", at("sub", json!("a\u{ad}da")), "bad_claim"),
        bad("sub written backwards", at("sub", json!("\u{202e}ada")), "bad_claim"),
        bad("sub with a tag character", at("sub", json!("ada\u{e0061}")), "bad_claim"),
        bad("sub empty", at("sub", json!("")), "bad_claim"),
        bad("two tenants in one string", at("tenants", json!("org_gcn org_nordbank")), "bad_claim"),
        bad("tenants with a comma", at("tenants", json!(["org_gcn,org_nordbank"])), "bad_claim"),
        bad("tenants not ASCII", at("tenants", json!(["оrg_gcn"])), "bad_claim"),
        bad("tenants with an empty one", at("tenants", json!([""])), "bad_claim"),
        bad("tenants with null", at("tenants", json!([null])), "bad_claim"),
        bad("tenants nested", at("tenants", json!([["org_gcn"]])), "bad_claim"),
        bad("tenants with traversal", at("tenants", json!(["../org_gcn"])), "bad_claim"),
        bad("active tenant with a space", at("active_tenant", json!("org gcn")), "bad_claim"),
        bad("roles in one string", at("roles", json!("tenant_admin")), "bad_claim"),
        bad("roles with a number", at("roles", json!(["a", 1])), "bad_claim"),
        bad("team roles in one string", at("teams", json!({"payments": "lead"})), "bad_claim"),
        bad("team without name", at("teams", json!({"": ["lead"]})), "bad_claim"),
        bad("teams an array", at("teams", json!(["payments"])), "bad_claim"),
        bad("scope with a number", at("scope", json!(["tools:read", 1])), "bad_claim"),
    ];
    for claim in ["sub", "active_tenant", "client_id", "tenants", "roles", "permissions", "scope"] {
        for value in [json!(7), json!(true), json!({"$ne": ""})] {
            table.push(bad(format!("{claim} {value}"), at(claim, value), "bad_claim"));
        }
    }
    for claim in ["sub", "active_tenant", "client_id"] {
        table.push(bad(format!("{claim} an array"), at(claim, json!(["org_gcn"])), "bad_claim"));
    }
    check(table, &main_issuer());
}

#[test]
fn claims_are_found_where_the_configuration_says() {
    let mut mapped = settings();
    mapped.claims.user = "/profile/a~1b".to_owned();
    mapped.claims.tenants = "https://loopiq.example/tenants".to_owned();
    mapped.claims.scopes = "scp".to_owned();
    mapped.claims.roles = "/realm_access/roles".to_owned();
    let mut claims = claims();
    claims["profile"] = json!({"a/b": "ada@example"});
    claims["https://loopiq.example/tenants"] = json!("org_nordbank");
    claims["scp"] = json!(["tools:read"]);
    claims["realm_access"] = json!({"roles": ["auditor", "auditor"]});
    let issuers = [issuer(mapped)];
    let ada = authenticate(&ED.token(&claims), &issuers, NOW).unwrap();
    assert_eq!((ada.user.as_str(), ada.tenants.as_slice()), ("ada@example", ["org_nordbank".to_owned()].as_slice()));
    assert_eq!((ada.scopes, ada.roles), (vec!["tools:read".to_owned()], vec!["auditor".to_owned()]));
    // A pointer that leads nowhere is an absent claim, and a user is required.
    claims["profile"] = json!("a/b");
    check(vec![bad("pointer into text", ED.token(&claims), "missing_claim")], &issuers);
}

//! `loopgate token`: a development issuer and its tokens.

use serde_json::Value;

use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::read_certification;
use crate::harness::run;

#[test]
fn init_says_what_to_do_next_and_that_works() {
    let home = Home::new("http://127.0.0.1:9");
    let said = run(&["token", "init", "--dir", &home.path("other")]).exits(0);
    let next = said.out.lines().find_map(|line| line.strip_prefix("next:")).unwrap().trim();
    let words: Vec<&str> = next.split_whitespace().skip(1).collect();
    let minted = run(&words).exits(0);
    assert_eq!(minted.out.trim_end().split('.').count(), 3, "{minted:?}");
    let again = run(&["token", "init", "--dir", &home.path("other")]).exits(2);
    assert!(again.err.starts_with("error: ") && again.err.contains("exists"), "{again:?}");
}

#[test]
fn a_minted_token_opens_the_gateway_and_one_that_is_expired_or_of_another_issuer_does_not() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let gateway = Gateway::serve(&home);
    assert_eq!(read_certification(&gateway.mcp, &home.token()).unwrap()["isError"], false);
    run(&["token", "init", "--dir", &home.path("other")]).exits(0);
    let mint = |key: &str, more: &[&str]| {
        let key = home.path(key);
        let words = [&["token", "mint", "--key", &key, "--user", "ada", "--tenant", "org_gcn"], more].concat();
        run(&words).exits(0).out.trim_end().to_owned()
    };
    let bad = [
        mint("issuer/dev-issuer.pem", &["--ttl", "-1h"]),
        mint("other/dev-issuer.pem", &[]),
        mint("issuer/dev-issuer.pem", &["--audience", "https://elsewhere.example"]),
        mint("issuer/dev-issuer.pem", &["--issuer", "https://elsewhere.example"]),
    ];
    for token in bad {
        let refused = read_certification(&gateway.mcp, &token).unwrap_err();
        assert!(refused.starts_with("401"), "{refused}");
    }
    let denied = home.records().into_iter().filter(|record| record["unmapped"]["loopgate"]["stage"] == "denied");
    let denied: Vec<Value> = denied.collect();
    assert!(!denied.is_empty(), "a refused credential leaves a record");
    let journal = serde_json::to_string(&denied).unwrap();
    assert!(!journal.contains("eyJ"), "and no token in it");
    gateway.process.stop();
}

#[test]
fn what_cannot_be_minted_is_exit_2_with_words() {
    let home = Home::new("http://127.0.0.1:9");
    let key = home.path("issuer/dev-issuer.pem");
    let cases: [(&[&str], &str); 6] = [
        (&["--user", "ada"], "--key <FILE>"),
        (&["--key", "not-there.pem", "--user", "ada"], "`not-there.pem`"),
        (&["--key", &key], "--user <USER>"),
        (&["--key", &key, "--user", ""], "a gateway would refuse that token"),
        (&["--key", &key, "--user", "ada", "--ttl", "soon"], "--ttl"),
        (&["--key", &key, "--user", "ada", "--team", "payments"], "team=role,role"),
    ];
    for (words, expected) in cases {
        let said = run(&[&["token", "mint"], words].concat()).exits(2);
        assert!(said.err.starts_with("error: ") && said.err.contains(expected), "{said:?}");
        assert!(said.out.is_empty(), "{said:?}");
    }
}

#[test]
fn an_approval_is_printed_alone_and_one_that_no_gateway_takes_is_exit_2_with_words() {
    let home = Home::new("http://127.0.0.1:9");
    let key = home.path("issuer/dev-issuer.pem");
    let fixed = ["token", "approval", "--ledger", "ledger_1", "--tenant", "org_gcn", "--user", "ada", "--tool", "x"];
    let signed = run(&[&fixed[..], &["--key", &key, "--vote", "otto=certification_approver"]].concat()).exits(0);
    assert_eq!((signed.out.lines().count(), signed.out.trim_end().split('.').count()), (1, 3), "{signed:?}");
    let cases: [(&[&str], &str); 5] = [
        (&["--key", &key], "--vote <USER=ROLE,ROLE>"),
        (&["--key", "not-there.pem", "--vote", "otto"], "`not-there.pem`"),
        (&["--key", &key, "--vote", "ada"], "a gateway would refuse that token"),
        (&["--key", &key, "--vote", "otto", "--ttl", "1h"], "lives longer"),
        (&["--key", &key, "--vote", "otto", "--arguments", "[1]"], "`--arguments`"),
    ];
    for (more, expected) in cases {
        let said = run(&[&fixed[..], more].concat()).exits(2);
        assert!(said.err.starts_with("error: ") && said.err.contains(expected), "{said:?}");
        assert!(said.out.is_empty(), "{said:?}");
    }
}

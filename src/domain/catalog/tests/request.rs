//! Promises about what is sent to a backend.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_request_has_one_form() {
    let catalog = built_in();
    let build = |name: &str, arguments: Value, dry_run: bool| {
        let request = catalog.tool(name).unwrap().request(&object(arguments), dry_run).unwrap();
        let body = request.body.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
        format!("{} {} {body}", request.method, request.path_and_query)
    };
    assert_eq!(
        build("loopiq_get_release", json!({"release": "backend-v1.0-GCN"}), false),
        "GET /api/v1/releases/backend-v1.0-GCN "
    );
    let search = json!({"limit": 20, "status": "certification", "q": "a b&c=d+é"});
    assert_eq!(
        build("loopiq_search_releases", search, false),
        "GET /api/v1/releases?limit=20&q=a%20b%26c%3Dd%2B%C3%A9&status=certification "
    );
    let item = json!({"type": "task", "title": "t", "owner": "ada"});
    assert_eq!(
        build("loopiq_create_work_item", item.clone(), false),
        r#"POST /api/v1/work-items {"owner":"ada","title":"t","type":"task"}"#
    );
    assert_eq!(
        build("loopiq_create_work_item", item, true),
        r#"POST /api/v1/work-items?dryRun=true {"owner":"ada","title":"t","type":"task"}"#
    );
    let refresh = json!({"release": "r"});
    assert_eq!(
        build("loopiq_refresh_release_certification_evidence_graph", refresh, false),
        "POST /api/v1/releases/r/certification/evidence-graph/refresh {}"
    );
}

#[test]
fn lists_in_the_query_are_explicit_and_other_structures_are_refused() {
    let catalog =
        one("effect: read\nroute: GET /a\nquery: [b, a]\ninput: {type: object, properties: {a: {}, b: {}}}").unwrap();
    let build = |arguments: Value| {
        catalog.tool("t").unwrap().request(&object(arguments), false).map(|request| request.path_and_query)
    };
    assert_eq!(build(json!({"a": ["y", "x", 1.0, true], "b": 1e3})).unwrap(), "/a?b=1000&a=y&a=x&a=1&a=true");
    assert_eq!(build(json!({"a": [], "b": ""})).unwrap(), "/a?b=");
    for bad in [
        json!({"a": null}),
        json!({"a": {"b": 1}}),
        json!({"a": [["b"]]}),
        json!({"a": [null]}),
        json!({"c": 1}),
        json!({"a": 9_007_199_254_740_993_u64}),
    ] {
        assert_eq!(build(bad.clone()).map_err(|refusal| refusal.code), Err(Code::InvalidArguments), "{bad}");
    }
}

#[test]
fn a_dry_run_is_sent_as_one_or_not_at_all() {
    let write = one("effect: write\nimpact: high\nroute: POST /a").unwrap();
    let refusal = write.tool("t").unwrap().request(&Map::new(), true).unwrap_err();
    assert_eq!((refusal.code, refusal.reasons[0].code.as_str()), (Code::InvalidArguments, "dry_run_unsupported"));
    let in_body = one("effect: write\nimpact: high\nroute: POST /a\ndry_run: {body: simulate}").unwrap();
    let request = in_body.tool("t").unwrap().request(&Map::new(), true).unwrap();
    assert_eq!(request.body.as_deref(), Some(&br#"{"simulate":true}"#[..]));
    assert!(in_body.tool("t").unwrap().request(&object(json!({"simulate": false})), true).is_err());
}

/// A tool with one path variable that the schema does not narrow.
fn one_variable() -> Catalog {
    let input = "{type: object, required: [v], properties: {v: {type: string}}}";
    one(&format!("effect: read\nroute: GET /a/{{v}}/z\ninput: {input}")).unwrap()
}

#[test]
fn a_value_that_could_leave_its_path_segment_is_refused() {
    let catalog = one_variable();
    let tool = catalog.tool("t").unwrap();
    let refused = [
        "",
        ".",
        "..",
        "../x",
        "..\\x",
        "x/..",
        "x/../y",
        "x\\..\\y",
        "/..",
        "./x",
        "..;/x",
        "..;a=b",
        ".;",
        "%2e",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%252e%252e",
        "%2e%2e%2fx",
        "%2e%2e/x",
        "..%2fx",
        "..%5cx",
        "..%252fx",
        "x%2f..%2fy",
        "x\r\ny",
        "x\ny",
        "x\0y",
        "\u{7f}",
        "\u{85}",
        "x\u{202e}y",
        "x\u{200b}",
        "e\u{301}",
        "\u{212b}",
        "\u{feff}x",
        "x\u{e0041}",
        "x\ty",
    ];
    assert!(refused.len() >= 30);
    for value in refused {
        let built = tool.request(&object(json!({ "v": value })), false);
        assert_eq!(built.map_err(|refusal| refusal.code), Err(Code::InvalidArguments), "{value:?}");
    }
    for value in [json!(1), json!(true), json!(null), json!(["a"]), json!({})] {
        assert!(tool.request(&object(json!({ "v": value })), false).is_err(), "{value}");
    }
    assert!(tool.request(&Map::new(), false).is_err());
}

#[test]
fn any_other_value_is_one_encoded_segment() {
    let catalog = one_variable();
    let tool = catalog.tool("t").unwrap();
    let encoded = [
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("a%b", "a%25b"),
        ("a%2fb", "a%252fb"),
        ("a;b", "a%3Bb"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a&b", "a%26b"),
        ("a@b:c", "a%40b%3Ac"),
        ("http://evil/", "http%3A%2F%2Fevil%2F"),
        ("//evil", "%2F%2Fevil"),
        ("é", "%C3%A9"),
        ("...", "..."),
        ("a..b", "a..b"),
        ("{v}", "%7Bv%7D"),
        ("*", "%2A"),
        ("\"'<>", "%22%27%3C%3E"),
        ("~_-.", "~_-."),
    ];
    for (value, segment) in encoded {
        let request = tool.request(&object(json!({ "v": value })), false).unwrap();
        assert_eq!(request.path_and_query, format!("/a/{segment}/z"), "{value:?}");
    }
}

#[test]
fn a_value_never_turns_one_tool_into_another() {
    let text = "
schema: 1
tools:
  - {name: get, title: T, description: D, family: f, effect: read, route: 'GET /r/{id}', input: &i {type: object, required: [id], properties: {id: {type: string}}}}
  - {name: secrets, title: T, description: D, family: f, effect: read, route: GET /r/secrets}
  - {name: part, title: T, description: D, family: f, effect: read, route: 'GET /r/{id}/part', input: *i}
  - {name: post, title: T, description: D, family: f, effect: write, impact: low, route: POST /r/keys}
";
    let catalog = Catalog::from_yaml(text).unwrap();
    let get = catalog.tool("get").unwrap();
    assert_eq!(get.request(&object(json!({"id": "secrets"})), false).unwrap_err().code, Code::InvalidArguments);
    assert!(get.request(&object(json!({"id": "Secrets"})), false).is_ok());
    assert!(get.request(&object(json!({"id": "keys"})), false).is_ok(), "another method is another route");
    assert!(catalog.tool("part").unwrap().request(&object(json!({"id": "secrets"})), false).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_one_segment_that_decodes_to_itself_or_is_refused(value in any::<String>()) {
        if let Ok(segment) = template::encode(&value) {
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert!(!matches!(segment.as_str(), "" | "." | ".."));
            let decoded = percent_encoding::percent_decode_str(&segment).decode_utf8().unwrap();
            prop_assert_eq!(decoded.as_ref(), value);
        }
    }

    #[test]
    fn plain_text_is_bounded_and_hides_nothing(text in any::<String>(), chars_max in 0_usize..40) {
        let plain = text::plain(&text, chars_max);
        prop_assert!(plain.chars().count() <= chars_max + 1);
        prop_assert!(!plain.chars().any(text::is_hidden));
    }
}

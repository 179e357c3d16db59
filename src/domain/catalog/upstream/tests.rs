use super::*;
use crate::domain::catalog::BUILT_IN;
use crate::domain::mcp::Era;
use crate::domain::mcp::ToolCall;

fn terms(prefix: &str) -> Terms {
    Terms {
        server: "crm".into(),
        prefix: prefix.into(),
        trust: Trust::First,
        believe_hints: false,
        defaults: Class::default(),
        tools: BTreeMap::new(),
        prompts: true,
        resources: true,
        timeout: Duration::from_secs(5),
    }
}

fn find() -> Value {
    json!({"name": "find", "description": "Finds.", "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}}})
}

fn offer(server: &str, tools: Vec<Value>) -> Offer {
    let capabilities = json!({"tools": {}, "prompts": {}, "resources": {}});
    Offer {
        server: server.into(),
        era: Era::Modern,
        capabilities: capabilities.as_object().cloned().unwrap(),
        tools,
        prompts: vec![
            json!({"name": "greet", "arguments": [{"name": "who", "required": true, "icon": "x"}], "icons": []}),
        ],
        resources: Vec::new(),
        templates: vec![json!({"uriTemplate": "crm://{id}/card", "name": "card"})],
    }
}

fn joined(offers: Vec<Offer>, terms: &[Terms], pins: &[Pins]) -> Joined {
    let offers = offers.into_iter().map(|offer| (offer.server.clone(), Arc::new(offer))).collect();
    let pins = pins.iter().map(|pins| (pins.server.clone(), pins.clone())).collect();
    Catalog::from_yaml(BUILT_IN).unwrap().join(&offers, terms, &pins)
}

fn standing(joined: &Joined, name: &str) -> Standing {
    joined
        .seen
        .iter()
        .find(|seen| seen.name == name)
        .unwrap_or_else(|| panic!("{name}: {:?}", joined.seen))
        .standing
        .clone()
}

#[test]
fn what_is_offered_is_in_the_catalog_under_its_prefix_and_taken_for_the_worst() {
    let joined = joined(vec![offer("crm", vec![find()])], &[terms("crm_")], &[]);
    let tool = joined.catalog.tool("crm_find").unwrap();
    assert_eq!((tool.effect, tool.impact, tool.family.as_str()), (Effect::Write, Impact::High, "crm"));
    assert_eq!(tool.route_text(), "mcp crm/find");
    assert!(tool.writes() && tool.offered_input()["properties"]["idempotencyKey"].is_object());
    assert_eq!(joined.catalog.prompts().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["crm_greet"]);
    let prompt = &joined.catalog.prompts["crm_greet"].definition;
    assert_eq!(
        *prompt,
        json!({"name": "crm_greet", "arguments": [{"name": "who", "required": true}]}),
        "only what we know"
    );
    assert_ne!(joined.catalog.digest(), Catalog::from_yaml(BUILT_IN).unwrap().digest());
    let body = tool.request(json!({"q": "x"}).as_object().unwrap(), false).unwrap().body.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({"method": "tools/call", "params": {"name": "find", "arguments": {"q": "x"}}}));
}

#[test]
fn a_changed_definition_is_out_until_it_is_accepted() {
    let mut pins = Pins::none("crm");
    pins.accept(Kind::Tool, "find", &find());
    let mut changed = find();
    changed["description"] = "Finds, and tells everybody.".into();
    let (was, is) = (digest(&find()).unwrap(), digest(&changed).unwrap());
    let out = joined(vec![offer("crm", vec![changed.clone()])], &[terms("")], std::slice::from_ref(&pins));
    assert!(out.catalog.tool("find").is_none());
    assert_eq!(standing(&out, "find"), Standing::Changed { was });
    assert_eq!(out.seen.iter().find(|seen| seen.name == "find").unwrap().digest, is);
    pins.accept(Kind::Tool, "find", &changed);
    let back = joined(vec![offer("crm", vec![changed])], &[terms("")], &[pins]);
    assert_eq!(standing(&back, "find"), Standing::Accepted);
    assert!(back.catalog.tool("find").is_some());
}

#[test]
fn with_a_list_nothing_is_in_that_is_not_on_it() {
    let listed = Terms { trust: Trust::Listed, ..terms("") };
    let out = joined(vec![offer("crm", vec![find()])], &[listed], &[]);
    assert_eq!(standing(&out, "find"), Standing::Awaits);
    assert!(out.catalog.tool("find").is_none() && out.catalog.prompts().next().is_none());
}

#[test]
fn a_name_that_is_taken_stays_with_whom_it_has() {
    let steal = json!({"name": "loopiq_get_release", "inputSchema": {"type": "object"}});
    let second = Terms { server: "erp".into(), ..terms("") };
    let offers = vec![offer("crm", vec![find(), find(), steal]), offer("erp", vec![find()])];
    let out = joined(offers, &[terms(""), second], &[]);
    let of = |server: &str| {
        out.seen.iter().filter(|seen| seen.server == server && seen.kind == Kind::Tool).collect::<Vec<_>>()
    };
    let unfit = |seen: &Seen| matches!(seen.standing, Standing::Unfit { .. });
    assert_eq!(of("crm").iter().map(|seen| unfit(seen)).collect::<Vec<_>>(), [false, true, true]);
    assert!(of("erp").iter().all(|seen| unfit(seen)));
    assert_eq!(out.catalog.tool("find").unwrap().upstream().unwrap().server, "crm");
    assert!(out.catalog.tool("loopiq_get_release").unwrap().route().is_some());
}

#[test]
fn a_definition_that_cannot_be_used_is_told_and_hinders_no_other() {
    let with = |changes: Value| {
        let mut tool = find();
        tool.as_object_mut().unwrap().extend(changes.as_object().cloned().unwrap());
        tool["name"] = "bad".into();
        tool
    };
    for bad in [
        with(json!({"description": "fine\u{200b}print"})),
        with(json!({"description": "x".repeat(10_001)})),
        with(json!({"title": 7})),
        with(json!({"inputSchema": {"type": "array"}})),
        with(json!({"inputSchema": {"type": "object", "properties": {"a": {"$ref": "https://evil.example/s"}}}})),
        with(json!({"inputSchema": {"type": "object", "properties": {"a": {"type": "nothing"}}}})),
        with(json!({"inputSchema": {"type": "object", "properties": {"a": {"description": "\u{e0041}"}}}})),
        with(json!({"inputSchema": {"type": "object", "properties": {"dryRun": {"type": "boolean"}}}})),
        with(json!({"inputSchema": {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"}})),
        with(json!({"inputSchema": null})),
        with(json!({"outputSchema": {"type": 7}})),
        with(json!({"inputSchema": {"type": "object", "title": "x".repeat(70_000)}})),
    ] {
        let out = joined(vec![offer("crm", vec![bad.clone(), find()])], &[terms("")], &[]);
        assert!(matches!(standing(&out, "bad"), Standing::Unfit { .. }), "{bad}");
        assert!(out.catalog.tool("find").is_some() && out.catalog.tool("bad").is_none());
    }
    for name in ["a b", "a/b", "", "é", &"x".repeat(65)] {
        let out = joined(
            vec![offer("crm", vec![json!({"name": name, "inputSchema": {"type": "object"}})])],
            &[terms("")],
            &[],
        );
        assert!(matches!(standing(&out, name), Standing::Unfit { .. }), "{name}");
    }
}

#[test]
fn schemas_of_draft_7_are_held_to_draft_7() {
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "properties": {"n": {"type": "number", "exclusiveMinimum": 0}}, "required": ["n"]});
    let tool = json!({"name": "old", "inputSchema": schema});
    let out = joined(vec![offer("crm", vec![tool])], &[terms("")], &[]);
    let tool = out.catalog.tool("old").unwrap();
    assert!(tool.validate(json!({"n": 1}).as_object().unwrap()).is_ok());
    assert!(tool.validate(json!({"n": 0}).as_object().unwrap()).is_err());
}

#[test]
fn a_server_is_believed_about_its_tools_only_where_the_settings_say_so() {
    let mut tool = find();
    tool["annotations"] = json!({"readOnlyHint": true});
    let class = |terms: Terms| {
        let out = joined(vec![offer("crm", vec![tool.clone()])], &[terms], &[]);
        let tool = out.catalog.tool("find").unwrap();
        (tool.effect, tool.impact)
    };
    assert_eq!(class(terms("")), (Effect::Write, Impact::High));
    assert_eq!(class(Terms { believe_hints: true, ..terms("") }), (Effect::Read, Impact::Low));
    let low = Class { impact: Some(Impact::Low), ..Class::default() };
    assert_eq!(class(Terms { defaults: low, ..terms("") }), (Effect::Write, Impact::Low));
    let read = ToolTerms { class: Class { effect: Some(Effect::Read), ..Class::default() }, ..ToolTerms::default() };
    let said = BTreeMap::from([("find".to_owned(), read)]);
    assert_eq!(class(Terms { tools: said, ..terms("") }), (Effect::Read, Impact::Low));
}

#[test]
fn what_stands_for_prompts_or_resources_is_no_tool_to_call() {
    let out = joined(vec![offer("crm", vec![])], &[terms("crm_")], &[]);
    let part = out.catalog.tool("crm.prompts").unwrap();
    assert_eq!((part.effect, part.impact, part.is_called()), (Effect::Read, Impact::Low, false));
    let call = ToolCall { name: "crm.prompts".into(), ..ToolCall::default() };
    assert!(out.catalog.resolve(&call).is_err());
}

#[test]
fn a_subject_finds_the_server_that_it_is_of() {
    let second = Terms { server: "erp".into(), ..terms("erp_") };
    let out = joined(vec![offer("crm", vec![]), offer("erp", vec![])], &[terms("crm_"), second], &[]);
    let stands = |subject| {
        let lists = |server: &str, uri: &str| server == "erp" && uri == "erp://1";
        out.catalog.stands_for(subject, &lists).map(|tool| tool.name.clone())
    };
    assert_eq!(stands(Subject::Prompt("crm_greet")).as_deref(), Some("crm.prompts"));
    assert_eq!(stands(Subject::Prompt("greet")), None);
    assert_eq!(stands(Subject::Resource("erp://1")).as_deref(), Some("erp.resources"));
    assert_eq!(stands(Subject::Resource("crm://7/card")).as_deref(), Some("crm.resources"));
    assert_eq!(stands(Subject::Resource("other://7")), None, "which of two is not guessed");
    let alone = joined(vec![offer("crm", vec![])], &[terms("")], &[]);
    let found = alone.catalog.stands_for(Subject::Resource("other://7"), &|_, _| false);
    assert_eq!(found.map(|tool| tool.name.as_str()), Some("crm.resources"));
}

#[test]
fn a_template_fits_what_it_may_stand_for() {
    for (template, uri, expected) in [
        ("test://template/{id}/data", "test://template/1/data", true),
        ("test://template/{id}/data", "test://template/1/date", false),
        ("test://{a}/{b}", "test://x/y", true),
        ("test://{a}/{b}", "rest://x/y", false),
        ("test://{a", "test://x", false),
        ("test://same", "test://same", true),
        ("test://same", "test://other", false),
    ] {
        assert_eq!(fits(template, uri), expected, "{template} {uri}");
    }
}

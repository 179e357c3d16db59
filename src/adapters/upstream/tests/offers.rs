//! What servers offer, and when it is read again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

use super::scripted::*;
use crate::adapters::upstream::UpstreamServers;
use crate::metrics::Metrics;
use crate::pep::ports::SendFaultKind;
use crate::pep::ports::SendFaultKind::*;
use crate::pep::ports::Upstreams;

/// What comes of reading a server whose `tools/list` answers like this.
async fn read(list: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Result<Vec<String>, SendFaultKind> {
    let server = Scripted::start(move |seen| match seen.method() {
        "server/discover" => Reply::Keep(result(
            seen,
            &json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}, "prompts": {}}}),
        )),
        "tools/list" => Reply::Keep(result(seen, &list(seen))),
        _ => Reply::Keep(answer(&error(seen, -32601))),
    })
    .await;
    let offer = server.upstream().read().await.map_err(|fault| fault.kind)?;
    assert!(offer.prompts.is_empty(), "a list that the server does not have after all is empty");
    Ok(offer.tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn lists_are_read_over_all_pages_and_no_further() {
    let page = |seen: &Seen| seen.body["params"]["cursor"].as_str().unwrap_or("0").parse::<u64>().unwrap();
    let pages = move |last: u64| {
        move |seen: &Seen| {
            let page = page(seen);
            let mut answer = json!({"tools": [{"name": format!("t{page}")}]});
            if page < last {
                answer["nextCursor"] = json!((page + 1).to_string());
            }
            answer
        }
    };
    assert_eq!(read(pages(3)).await.unwrap(), ["t0", "t1", "t2", "t3"]);
    assert_eq!(read(pages(5)).await, Err(TooLarge));
    assert_eq!(read(|_| json!({"tools": [], "nextCursor": "0"})).await, Err(Broken), "pages in a circle");
    assert_eq!(read(|_| json!({"tools": vec![json!({"name": "t"}); 21]})).await, Err(Broken));
    assert_eq!(read(|_| json!({"tools": ["t"]})).await, Err(Broken));
    assert_eq!(read(|_| json!({})).await, Err(Broken));
    assert_eq!(read(|_| json!({"tools": [], "nextCursor": 7})).await, Err(Broken));
    assert_eq!(read(|_| json!({"resultType": "input_required", "tools": []})).await, Err(Broken));
}

#[tokio::test]
async fn a_tool_whose_headers_cannot_be_sent_is_left_out() {
    let schema = |name: &str| json!({"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": name}}});
    let tools = json!({"tools": [
        {"name": "good", "inputSchema": schema("Region")},
        {"name": "bad", "inputSchema": schema("X\r\nEvil")},
    ]});
    assert_eq!(read(move |_| tools.clone()).await.unwrap(), ["good"]);
}

#[tokio::test]
async fn a_server_that_goes_keeps_its_last_offer_and_stops_no_other() {
    let up = Arc::new(AtomicBool::new(true));
    let script = modern(|seen| Reply::Keep(answer(&error(seen, -32601))));
    let lists = Arc::clone(&up);
    let server =
        Scripted::start(
            move |seen| {
                if lists.load(Ordering::SeqCst) { script(seen) } else { Reply::Keep(http("503 Oh", "", b"")) }
            },
        )
        .await;
    let never = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut gone = scripted_server("gone", never.local_addr().unwrap().port());
    gone.timeout = Duration::from_millis(200);
    let servers = UpstreamServers::new(vec![server_at(&server), gone], &Arc::new(Metrics::new()));
    let (stop, stopped) = watch::channel(false);
    let watching = async {
        servers.first(Duration::from_mins(1)).await;
        assert_eq!(servers.offers().keys().collect::<Vec<_>>(), ["docs"]);
        let states = servers.states();
        assert!(states[0].fault.is_none() && states[0].read_ago.is_some(), "{states:?}");
        assert!(states[1].fault.is_some() && states[1].read_ago.is_none(), "{states:?}");
        up.store(false, Ordering::SeqCst);
        let docs = &servers.servers["docs"];
        docs.look_again();
        while docs.state().fault.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(servers.offers()["docs"].tools.len(), 1, "the last offer stays");
        assert_eq!(*servers.changes().borrow(), 1);
        stop.send(true).unwrap();
    };
    tokio::join!(servers.run(stopped), watching);
}

fn scripted_server(name: &str, port: u16) -> crate::adapters::upstream::Server {
    crate::adapters::upstream::Server { name: name.into(), ..super::scripted::server(port) }
}

fn server_at(server: &Scripted) -> crate::adapters::upstream::Server {
    scripted_server("docs", server.port)
}

#[tokio::test]
async fn a_server_that_says_that_it_changed_is_read_again() {
    let flag = AtomicBool::new(false);
    let server = Scripted::start(move |seen| match seen.method() {
        "server/discover" => Reply::Keep(result(
            seen,
            &json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": true}}}),
        )),
        "tools/list" => {
            let name = if flag.load(Ordering::SeqCst) { "after" } else { "before" };
            Reply::Keep(result(seen, &json!({"tools": [{"name": name}]})))
        }
        "subscriptions/listen" => {
            assert_eq!(seen.body["params"]["notifications"], json!({"toolsListChanged": true}));
            flag.store(true, Ordering::SeqCst);
            Reply::Hang(stream(&[event(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))]))
        }
        _ => Reply::Keep(answer(&error(seen, -32601))),
    })
    .await;
    let servers = UpstreamServers::new(vec![server_at(&server)], &Arc::new(Metrics::new()));
    let mut changes = servers.changes();
    let (stop, stopped) = watch::channel(false);
    let watching = async {
        changes.wait_for(|changes| *changes == 2).await.unwrap();
        assert_eq!(servers.offers()["docs"].tools[0]["name"], "after");
        stop.send(true).unwrap();
    };
    tokio::join!(servers.run(stopped), watching);
}

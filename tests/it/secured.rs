//! A whole gateway by TLS at both doors, by HTTP/2, and by a Unix socket.

use std::fs;

use loopgate::app;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::certificates::Authority;
use crate::harness::LOOPGATE;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::Site;
use crate::harness::claims;

const GOOD: (i32, i32) = (2020, 2035);
const PLAIN: &str = "listen: {mcp: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}";
const TLS: &str = "
listen:
  mcp: 127.0.0.1:0
  tls: {certificate: certificate.pem, key: key.pem}
  mcp_socket: mcp.sock
  admin: 127.0.0.1:0
  admin_tls: {certificate: certificate.pem, key: key.pem, clients: {ca: ca.pem, required: true}}
";

fn message() -> Value {
    let params = json!({"name": "loopiq_get_release_certification", "arguments": {"release": RELEASE}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_reached_by_tls_and_by_a_unix_socket() {
    let site = Site::make(&Setup::default()).await;
    let dir = site.dir.path();
    let ours = Authority::new("ours");
    ours.server(&["localhost", "127.0.0.1"], GOOD).save(dir);
    fs::write(dir.join("ca.pem"), &ours.pem).unwrap();
    let file = dir.join("gateway.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(PLAIN));
    fs::write(&file, text.replace(PLAIN, TLS)).unwrap();

    // What is wrong with a file is told before anything starts.
    let key = fs::read(dir.join("key.pem")).unwrap();
    fs::write(dir.join("key.pem"), ours.server(&["localhost"], GOOD).key).unwrap();
    let faults = app::parties(&site.settings());
    assert!(faults.iter().any(|fault| fault.contains("listen.tls") && fault.contains("key.pem")), "{faults:?}");
    assert!(Box::pin(app::start_with(site.settings(), LOOPGATE.into())).await.is_err());
    fs::write(dir.join("key.pem"), key).unwrap();
    assert_eq!(app::parties(&site.settings()), [""; 0]);

    let gateway = Box::pin(app::start_with(site.settings(), LOOPGATE.into())).await.unwrap();
    let token = site.people.mint(&claims("ada"), app::now_s(), 3600, "ada");
    let root = || reqwest::Certificate::from_pem(ours.pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root()]).build().unwrap();
    let called = client.post(gateway.mcp_url()).bearer_auth(&token).json(&message()).send().await.unwrap();
    assert_eq!((called.status().as_u16(), called.version()), (200, http::Version::HTTP_2));
    let called: Value = called.json().await.unwrap();
    assert_eq!(called["result"]["isError"], false, "{called}");

    // Operators show a certificate of their own, or are not let in.
    let ready = format!("{}/readyz", gateway.admin_url());
    assert!(client.get(&ready).send().await.is_err());
    let operator = ours.client("operator.internal", "spiffe://loopgate/operator", GOOD);
    let identity = format!("{}{}", operator.certificate, operator.key);
    let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
    let operators = reqwest::Client::builder().no_proxy().tls_certs_only([root()]).identity(identity).build().unwrap();
    assert_eq!(operators.get(&ready).send().await.unwrap().status(), 200);
    let metrics = operators.get(format!("{}/metrics", gateway.admin_url())).send().await.unwrap().text().await.unwrap();
    for series in [
        "loopgate_tls_certificate_expires_timestamp_seconds{listener=\"listen.tls\"} 2051222400",
        "loopgate_tls_certificate_stale{listener=\"listen.admin_tls\"} 0",
    ] {
        assert!(metrics.contains(series), "{series} is not in {metrics}");
    }

    // The sidecar's agent has no TLS and another name for the same door.
    let mut agent = UnixStream::connect(dir.join("mcp.sock")).await.unwrap();
    let body = message().to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    agent.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    agent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"isError\":false"), "{answer}");
    gateway.stop().await;
    assert!(!dir.join("mcp.sock").exists());
}

//! An MCP server of the newest revision that does as a test says, over real TCP.

use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// What it does with a call.
pub(crate) type Answering = dyn Fn(&Value) -> Said + Send + Sync;

/// What becomes of a call.
pub(crate) enum Said {
    /// A result.
    Result(Value),
    /// A JSON-RPC error.
    Error(Value),
    /// The connection breaks, the call having been taken.
    Nothing,
}

/// The server.
pub(crate) struct Server {
    pub(crate) addr: std::net::SocketAddr,
    inside: Arc<Inside>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inside {
    tools: Mutex<Vec<Value>>,
    calls: Mutex<Vec<Value>>,
    answer: Box<Answering>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the server's tasks end with it, or with the test's runtime")]
    pub(crate) async fn start(tools: Vec<Value>, answer: impl Fn(&Value) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inside = Arc::new(Inside { tools: Mutex::new(tools), calls: Mutex::default(), answer: Box::new(answer) });
        let serves = Arc::clone(&inside);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inside = Arc::clone(&serves);
                tokio::spawn(async move { inside.serve(stream).await });
            }
        });
        Self { addr, inside, serving }
    }

    /// Offers these tools from now on.
    pub(crate) fn offer(&self, tools: Vec<Value>) {
        *self.inside.tools.lock().unwrap() = tools;
    }

    /// Everything it was asked but what it offers.
    pub(crate) fn calls(&self) -> Vec<Value> {
        self.inside.calls.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inside {
    async fn serve(&self, mut stream: TcpStream) {
        while let Some(message) = read(&mut stream).await {
            let Some(answer) = self.answer(&message) else { return };
            let body = answer.to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            if stream.write_all((head + &body).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, message: &Value) -> Option<Value> {
        let list = |name: &str, items: Value| json!({"ttlMs": 0, "cacheScope": "public", name: items});
        let result = match message["method"].as_str().unwrap_or_default() {
            "server/discover" => json!({"supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "public",
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}}),
            "tools/list" => list("tools", json!(*self.tools.lock().unwrap())),
            "prompts/list" => list("prompts", json!([{"name": "greet", "description": "Greets."}])),
            "resources/list" => list("resources", json!([{"uri": "crm://card/1", "name": "card"}])),
            "resources/templates/list" => {
                list("resourceTemplates", json!([{"uriTemplate": "crm://card/{id}", "name": "c"}]))
            }
            _ => {
                self.calls.lock().unwrap().push(message.clone());
                match (self.answer)(message) {
                    Said::Result(result) => result,
                    Said::Error(error) => return Some(json!({"jsonrpc": "2.0", "id": message["id"], "error": error})),
                    Said::Nothing => return None,
                }
            }
        };
        let mut result = result;
        result.as_object_mut().unwrap().entry("resultType").or_insert_with(|| "complete".into());
        Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
    }
}

/// The next request's body; none when the connection ends.
async fn read(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head {
            let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let (from, length) = (end + 4, length.unwrap_or(0));
            if bytes.len() >= from + length {
                return serde_json::from_slice(&bytes[from..from + length]).ok();
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

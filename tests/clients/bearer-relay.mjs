// Puts a bearer token into every request on its way to one gateway, for the conformance suite, which cannot send one.
//
//   RELAY_TOKEN=… node bearer-relay.mjs http://127.0.0.1:8080     prints the URL it listens on, then serves until killed
//
// Promises: nothing else of a request or answer is changed: headers keep order, case and repetition, bodies and
// streams flow as they come, a client that hangs up is hung up on behind, a hostile Host or Origin arrives as it
// was sent. Only the relay's own port in Host and Origin becomes the gateway's, as a direct client would have sent.
// Never used outside tests, and listens on loopback only. Called by `conformance`.
import http from 'node:http';

const target = new URL(process.argv[2]);
const token = process.env.RELAY_TOKEN;
const agent = new http.Agent({ keepAlive: true });
const hop = new Set(['connection', 'keep-alive', 'transfer-encoding', 'authorization']);

function* pairs(raw) {
  for (let at = 0; at < raw.length; at += 2) yield [raw[at], raw[at + 1]];
}

function onward(raw, port) {
  const headers = [['Authorization', `Bearer ${token}`]];
  for (const [name, value] of pairs(raw)) {
    const key = name.toLowerCase();
    if (hop.has(key)) continue;
    const ours = key === 'host' || key === 'origin';
    headers.push([name, ours ? value.replace(new RegExp(`^((?:https?://)?(?:localhost|127\\.0\\.0\\.1)):${port}$`), `$1:${target.port}`) : value]);
  }
  return headers.flat();
}

const relay = http.createServer((request, response) => {
  const headers = onward(request.rawHeaders, relay.address().port);
  const options = { host: target.hostname, port: target.port, path: request.url, method: request.method, headers, agent };
  const ahead = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, [...pairs(answer.rawHeaders)].filter(([name]) => !hop.has(name.toLowerCase())).flat());
    response.flushHeaders(); // an event stream may stay silent after its head
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  ahead.on('error', (why) => {
    if (response.headersSent) return response.destroy();
    response.writeHead(502).end(`${why}`);
  });
  response.on('close', () => ahead.destroy());
  request.pipe(ahead);
});

relay.listen(0, 'localhost', () => console.log(`http://localhost:${relay.address().port}`));

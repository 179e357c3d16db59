// An upstream MCP server on the official SDK, dual-era, with every fixture that the conformance suite asks for.
//
//   node upstream-server.mjs [--era both|modern|legacy] [--port N]     prints its URL, then serves until killed
//
// Promises: with `both` it passes the suite of either era by itself, so that whatever fails behind a gateway is the
// gateway's doing. Modern requests are stateless; a legacy client gets a session and its streams. Listens on loopback
// only. `POST /control/redefine {"tool", "description"}` changes a tool under its clients' feet and tells them;
// `POST /control/forget` ends every legacy session. Never used outside tests. Called by them and by `conformance`.
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import {
  WebStandardStreamableHTTPServerTransport, classifyInboundRequest, createMcpHandler, isInitializeRequest,
  localhostAllowedHostnames, validateHostHeader,
} from '@modelcontextprotocol/server';
import { World } from './upstream/fixtures.mjs';

const { values: chosen } = parseArgs({ options: { era: { type: 'string', default: 'both' }, port: { type: 'string', default: '0' } } });
const world = new World();
const modern = createMcpHandler(() => world.server(), { legacy: 'reject' });
world.bus = modern.notify;
const sessions = new Map();

/** Keeps what a legacy stream said, so that a client that was cut off reads on from where it was. */
class Events {
  #said = [];
  async storeEvent(stream, message) {
    const id = `${stream}:${this.#said.length}`;
    this.#said.push({ id, stream, message });
    return id;
  }
  async replayEventsAfter(last, { send }) {
    const at = this.#said.findIndex((event) => event.id === last);
    const stream = this.#said[at]?.stream ?? last;
    for (const event of this.#said.slice(at + 1)) {
      const empty = Object.keys(event.message ?? {}).length === 0; // what primes a stream is not a message
      if (event.stream === stream && !empty) await send(event.id, event.message);
    }
    return stream;
  }
}

const refuse = (status, code, message) => Response.json({ jsonrpc: '2.0', error: { code, message }, id: null }, { status });

async function opened() {
  const server = world.server();
  const transport = new WebStandardStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    eventStore: new Events(),
    retryInterval: 5000,
    onsessioninitialized: (id) => void sessions.set(id, { server, transport }),
  });
  transport.onclose = () => {
    sessions.delete(transport.sessionId);
    world.transports.delete(transport);
  };
  await server.connect(transport);
  world.transports.add(transport);
  return transport;
}

async function legacy(request, body) {
  const id = request.headers.get('mcp-session-id');
  const known = sessions.get(id);
  if (known) return known.transport.handleRequest(request, { parsedBody: body });
  if (id) return refuse(404, -32001, 'Session not found');
  if (!isInitializeRequest(body)) return refuse(400, -32000, 'Bad Request: Session ID required');
  return (await opened()).handleRequest(request, { parsedBody: body });
}

async function control(path, body) {
  if (path === '/control/forget') {
    for (const { server } of [...sessions.values()]) await server.close();
    sessions.clear();
  } else if (path === '/control/redefine') {
    world.descriptions.set(body.tool, body.description);
    modern.notify.toolsChanged();
    for (const { server } of sessions.values()) world.redescribe(server);
  } else return new Response(null, { status: 404 });
  return new Response(null, { status: 204 });
}

async function answer(request, path, text) {
  if (!validateHostHeader(request.headers.get('host'), localhostAllowedHostnames()).ok) return refuse(403, -32000, 'not this host');
  let body;
  try {
    body = text ? JSON.parse(text) : undefined;
  } catch {
    return refuse(400, -32700, 'Parse error');
  }
  if (path.startsWith('/control/')) return control(path, body);
  if (path !== '/mcp') return new Response(null, { status: 404 });
  if (chosen.era === 'modern') return modern.fetch(request, { parsedBody: body });
  const header = (name) => request.headers.get(name) ?? undefined;
  const kind = classifyInboundRequest({
    httpMethod: request.method, protocolVersionHeader: header('mcp-protocol-version'), mcpMethodHeader: header('mcp-method'), body,
  }).kind;
  if (kind === 'legacy' || chosen.era === 'legacy') return legacy(request, body);
  return modern.fetch(request, { parsedBody: body });
}

/** The SDK speaks Fetch; Node's listener does not. */
const listener = http.createServer(async (incoming, outgoing) => {
  const gone = new AbortController();
  outgoing.on('close', () => gone.abort());
  try {
    const parts = [];
    for await (const part of incoming) parts.push(part);
    const text = Buffer.concat(parts).toString();
    const headers = new Headers(Object.entries(incoming.headersDistinct).flatMap(([name, values]) => values.map((value) => [name, value])));
    const url = new URL(incoming.url, `http://localhost:${listener.address().port}`);
    const init = { method: incoming.method, headers, signal: gone.signal, ...(text ? { body: text } : {}) };
    const response = await answer(new Request(url, init), url.pathname, text);
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    if (!response.body) return void outgoing.end();
    outgoing.flushHeaders();
    Readable.fromWeb(response.body).on('error', () => outgoing.destroy()).pipe(outgoing);
  } catch (why) {
    console.error(why);
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(500).end();
  }
});
listener.requestTimeout = 0;
listener.listen(Number(chosen.port), 'localhost', () => console.log(`http://localhost:${listener.address().port}/mcp`));

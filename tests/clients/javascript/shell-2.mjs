// A shell for tools on the official TypeScript client `@modelcontextprotocol/client` 2.x.
//
//   LOOPGATE_URL=http://127.0.0.1:8080/mcp LOOPGATE_TOKEN=… node shell-2.mjs [legacy|auto]
//
// Lines in and out as in ../python/shell_2.py. The client's own default is `legacy`: it says
// `initialize`. With `auto` it asks `server/discover` first and speaks 2026-07-28 when it can.
import { createInterface } from 'node:readline';
import { Client, ProtocolError, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const say = (answer) => console.log(JSON.stringify(answer));
const { LOOPGATE_URL, LOOPGATE_TOKEN, LOOPGATE_TENANT } = process.env;
const headers = { Authorization: `Bearer ${LOOPGATE_TOKEN}` };
if (LOOPGATE_TENANT) headers['X-LoopIQ-Tenant'] = LOOPGATE_TENANT;

const client = new Client(
  { name: 'loopgate-shell', version: '2' },
  { versionNegotiation: { mode: process.argv[2] ?? 'legacy' } },
);

const changes = [];
const waiting = [];
client.setNotificationHandler('notifications/tools/list_changed', async () => (waiting.shift() ?? ((one) => changes.push(one)))('ToolsListChanged'));

async function ask(line) {
  const [, name, given] = line.trim().match(/^(\S+)\s*(.*)$/);
  try {
    if (name === 'listen') return { result: { honoured: (await client.listen({ toolsListChanged: true })).honoredFilter } };
    if (name === 'changed') return { result: { changed: changes.shift() ?? (await new Promise((told) => waiting.push(told))) } };
    if (name === 'tools') return { result: await client.listTools() }; // follows every page by itself
    return { result: await client.callTool({ name, arguments: JSON.parse(given || '{}') }) };
  } catch (error) {
    if (!ProtocolError.isInstance(error)) throw error;
    return { error: { code: error.code, message: error.message, data: error.data } };
  }
}

try {
  await client.connect(new StreamableHTTPClientTransport(new URL(LOOPGATE_URL), { requestInit: { headers } }));
  say({ connected: client.getNegotiatedProtocolVersion() });
  for await (const line of createInterface({ input: process.stdin })) say(await ask(line));
  await client.close();
} catch (error) {
  say({ refused: `${error.name}: ${error.message}` });
  process.exitCode = 1;
}

// The shell of shell-2.mjs on the older line of the official client, `@modelcontextprotocol/sdk` 1.x.
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpError } from '@modelcontextprotocol/sdk/types.js';

const say = (answer) => console.log(JSON.stringify(answer));
const { LOOPGATE_URL, LOOPGATE_TOKEN, LOOPGATE_TENANT } = process.env;
const headers = { Authorization: `Bearer ${LOOPGATE_TOKEN}` };
if (LOOPGATE_TENANT) headers['X-LoopIQ-Tenant'] = LOOPGATE_TENANT;

const client = new Client({ name: 'loopgate-shell', version: '1' });
const transport = new StreamableHTTPClientTransport(new URL(LOOPGATE_URL), { requestInit: { headers } });

async function everyTool() {
  const tools = [];
  let cursor;
  do {
    const page = await client.listTools({ cursor });
    tools.push(...page.tools);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return { tools };
}

async function ask(line) {
  const [, name, given] = line.trim().match(/^(\S+)\s*(.*)$/);
  try {
    if (name === 'tools') return { result: await everyTool() };
    return { result: await client.callTool({ name, arguments: JSON.parse(given || '{}') }) };
  } catch (error) {
    if (!(error instanceof McpError)) throw error;
    return { error: { code: error.code, message: error.message, data: error.data } };
  }
}

try {
  await client.connect(transport);
  say({ connected: transport.protocolVersion });
  for await (const line of createInterface({ input: process.stdin })) say(await ask(line));
  await client.close();
} catch (error) {
  say({ refused: `${error.name}: ${error.message}` });
  process.exitCode = 1;
}

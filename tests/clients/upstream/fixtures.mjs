// What the upstream server of the tests offers: the fixtures that the conformance suite asks for by name.
//
// Promises: the names, and the shapes that the suite looks for; nothing here keeps state between requests but
// `World.descriptions`, which a test changes on purpose. Called by ../upstream-server.mjs.
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { McpServer, ResourceTemplate, createRequestStateCodec, fromJsonSchema } from '@modelcontextprotocol/server';
import * as asking from './asking.mjs';

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const SILENCE = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';
const SECRET = randomBytes(32);
const SHOWN = ['host', 'authorization', 'mcp-session-id', 'mcp-protocol-version', 'mcp-method', 'mcp-name', 'traceparent', 'x-request-id'];

export const object = (properties = {}, more = {}) => ({ type: 'object', properties, ...more });
export const text = (words) => ({ content: [{ type: 'text', text: words }] });
const string = (description) => ({ type: 'string', description });
const picture = { type: 'image', data: PIXEL, mimeType: 'image/png' };
const embedded = (uri, mimeType, words) => ({ type: 'resource', resource: { uri, mimeType, text: words } });

/** SEP-1613 and SEP-2106: keywords that must survive a listing word for word. */
const ADDRESSED = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: { address: { $anchor: 'addressDef', type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } } } },
  properties: {
    name: { type: 'string' }, address: { $ref: '#/$defs/address' }, contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' }, email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

async function logging(_, { mcpReq }) {
  for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
    await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } });
    await pause(50);
  }
  return text('Tool with logging executed successfully');
}

async function progressing(_, { mcpReq }) {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return text('no-progress-token');
  for (const progress of [0, 50, 100]) {
    const message = `Completed step ${progress} of 100`;
    await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100, message } });
    await pause(50);
  }
  return text(String(progressToken));
}

const failing = async () => {
  throw new Error('This tool intentionally returns an error for testing');
};

/** What arrived beside the body, for tests of what a gateway sends along. */
const headers = async (_, { http, sessionId }) => {
  const sent = Object.fromEntries([...(http?.req?.headers ?? [])].filter(([name]) => SHOWN.includes(name) || name.startsWith('mcp-param-')));
  return { ...text(JSON.stringify(sent)), structuredContent: { headers: sent, session: sessionId ?? null } };
};

const meta = async (_, { mcpReq }) => ({ ...text('what came as `_meta`'), structuredContent: { meta: mcpReq._meta ?? {}, envelope: mcpReq.envelope ?? {} } });

/** `[name, description, input schema, handler]`. */
const TOOLS = [
  ['test_x_mcp_header', 'Mirrors an argument into a header', object({ region: { type: 'string', 'x-mcp-header': 'Region' }, level: { type: 'integer' } }),
    async ({ region }) => text(`region=${region ?? '<none>'}`)],
  ['test_simple_text', 'Answers with text', object(), async () => text('This is a simple text response for testing.')],
  ['test_image_content', 'Answers with an image', object(), async () => ({ content: [picture] })],
  ['test_audio_content', 'Answers with sound', object(), async () => ({ content: [{ type: 'audio', data: SILENCE, mimeType: 'audio/wav' }] })],
  ['test_embedded_resource', 'Answers with a resource', object(),
    async () => ({ content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')] })],
  ['test_multiple_content_types', 'Answers with text, an image and a resource', object(), async () => ({
    content: [{ type: 'text', text: 'Multiple content types test:' }, picture, embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')],
  })],
  ['test_tool_with_logging', 'Logs while it runs', object(), logging],
  ['test_tool_with_progress', 'Reports progress', object(), progressing],
  ['test_error_handling', 'Fails', object(), failing],
  ['json_schema_2020_12_tool', 'Has a schema with much of JSON Schema 2020-12', ADDRESSED, async (args) => text(JSON.stringify(args))],
  ['test_streaming_elicitation', 'Answers without asking', object(), async () => text('nothing was asked')],
  ['test_logging_tool', 'Logs for those who asked to hear it', object(), async (_, { mcpReq }) => {
    await mcpReq.log('info', 'test_logging_tool ran');
    return text('logged');
  }],
  ['show_headers', 'Shows the headers that came with the call', object(), headers],
  ['show_meta', 'Shows the `_meta` that came with the call', object(), meta],
];

/** `[name, mime type, contents]`. */
const RESOURCES = [
  ['static-text', 'text/plain', { text: 'This is the content of the static text resource.' }],
  ['static-binary', 'image/png', { blob: PIXEL }],
  ['watched-resource', 'text/plain', { text: 'Watched resource content' }],
];

const message = (content) => ({ role: 'user', content });
const said = (words) => message({ type: 'text', text: words });

/** `[name, description, arguments schema, handler]`. */
const PROMPTS = [
  ['test_simple_prompt', 'A prompt', undefined, async () => ({ messages: [said('This is a simple prompt for testing.')] })],
  ['test_prompt_with_arguments', 'A prompt with arguments', object({ arg1: string('First'), arg2: string('Second') }, { required: ['arg1', 'arg2'] }),
    async ({ arg1, arg2 }) => ({ messages: [said(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)] })],
  ['test_prompt_with_embedded_resource', 'A prompt with a resource', object({ resourceUri: string('What to embed') }, { required: ['resourceUri'] }),
    async ({ resourceUri }) => ({
      messages: [message(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')), said('Please process the embedded resource above.')],
    })],
  ['test_prompt_with_image', 'A prompt with an image', undefined, async () => ({ messages: [message(picture), said('Please analyze the image above.')] })],
];

/** One upstream, whoever connects and however often. */
export class World {
  descriptions = new Map();
  transports = new Set();
  bus;
  #registered = new WeakMap();
  #state = createRequestStateCodec({ key: SECRET });

  /** A fresh server: one for every modern request, one for every legacy session. */
  server() {
    const server = new McpServer({ name: 'loopgate-test-upstream', version: '1.0.0' }, {
      capabilities: {
        tools: { listChanged: true }, resources: { subscribe: true, listChanged: true }, prompts: { listChanged: true }, logging: {}, completions: {},
      },
      requestState: { verify: this.#state.verify },
    });
    this.#tools(server);
    this.#resources(server);
    for (const [name, description, argsSchema, run] of [...PROMPTS, ...asking.PROMPTS]) {
      server.registerPrompt(name, { title: name, description, ...(argsSchema ? { argsSchema: fromJsonSchema(argsSchema) } : {}) }, run);
    }
    for (const method of ['resources/subscribe', 'resources/unsubscribe', 'logging/setLevel']) server.server.setRequestHandler(method, async () => ({}));
    server.server.setRequestHandler('completion/complete', async () => ({ completion: { values: ['paris', 'park'], total: 2, hasMore: false } }));
    return server;
  }

  redescribe(server) {
    for (const [name, description] of this.descriptions) this.#registered.get(server)?.get(name)?.update({ description });
  }

  #tools(server) {
    const registered = new Map();
    const triggers = [
      ['test_trigger_tool_change', 'Says that the tools changed', object(), async () => (this.bus.toolsChanged(), text('said'))],
      ['test_trigger_prompt_change', 'Says that the prompts changed', object(), async () => (this.bus.promptsChanged(), text('said'))],
      ['test_reconnection', 'Drops its stream and answers on the next', object(), async (_, { mcpReq, sessionId }) => {
        const own = [...this.transports].find((transport) => transport.sessionId === sessionId);
        own?.closeSSEStream(mcpReq.id);
        await pause(100);
        return text('Reconnection test completed successfully.');
      }],
    ];
    for (const [name, fallback, schema, run] of [...TOOLS, ...asking.tools(this.#state), ...triggers]) {
      const description = this.descriptions.get(name) ?? fallback;
      registered.set(name, server.registerTool(name, { description, inputSchema: fromJsonSchema(schema) }, run));
    }
    this.#registered.set(server, registered);
  }

  #resources(server) {
    for (const [name, mimeType, contents] of RESOURCES) {
      const uri = `test://${name}`;
      server.registerResource(name, uri, { title: name, description: `A resource: ${name}`, mimeType }, async () => ({ contents: [{ uri, mimeType, ...contents }] }));
    }
    const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
    const mimeType = 'application/json';
    server.registerResource('template', template, { title: 'template', description: 'A resource for every id', mimeType }, async (uri, { id }) => ({
      contents: [{ uri: uri.toString(), mimeType, text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }],
    }));
  }
}

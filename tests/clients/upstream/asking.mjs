// Tools and prompts of the upstream server of the tests that ask their caller something before they answer.
//
// Promises: a modern caller is asked by `input_required`, and what it sends back is believed only as far as it can be
// checked; a legacy caller is asked by a request on its stream. Called by fixtures.mjs.
import { CLIENT_CAPABILITIES_META_KEY, acceptedContent, inputRequired } from '@modelcontextprotocol/server';
import { randomUUID } from 'node:crypto';

const text = (words) => ({ content: [{ type: 'text', text: words }] });
const nothing = { type: 'object', properties: {} };
const form = (property, type, message) =>
  inputRequired.elicit({ message, requestedSchema: { type: 'object', properties: { [property]: { type } }, required: [property] } });
const sample = (words, maxTokens = 100) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: words } }], maxTokens });
const name = () => form('name', 'string', 'What is your name?');

/** Asks a legacy client on its stream, and says what came of it. */
async function back(mcpReq, method, params, tell) {
  try {
    return text(tell(await mcpReq.send({ method, params })));
  } catch (why) {
    return text(`${method} not supported or error: ${why.message}`);
  }
}

const elicited = (requestedSchema, message) => async (args, { mcpReq }) =>
  back(mcpReq, 'elicitation/create', { message: args.message ?? message, requestedSchema: { type: 'object', ...requestedSchema } },
    ({ action, content }) => `User response: action=${action}, content=${JSON.stringify(content ?? {})}`);

/** SEP-1034. */
const DEFAULTS = {
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  required: [],
};

/** SEP-1330: the five ways to write a choice. */
const titled = (names) => names.map((title, at) => ({ const: `value${at + 1}`, title }));
const CHOICES = {
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: { type: 'string', oneOf: titled(['First Option', 'Second Option', 'Third Option']) },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
    untitledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { anyOf: titled(['First Choice', 'Second Choice', 'Third Choice']) } },
  },
  required: [],
};

const BACK = [
  ['test_sampling', 'Asks for a completion', { type: 'object', properties: { prompt: { type: 'string' } }, required: ['prompt'] },
    async ({ prompt }, { mcpReq }) => back(mcpReq, 'sampling/createMessage',
      { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 100 }, ({ content }) => `LLM response: ${content?.text}`)],
  ['test_elicitation', 'Asks the user', { type: 'object', properties: { message: { type: 'string' } }, required: ['message'] },
    elicited({ properties: { response: { type: 'string' } }, required: ['response'] })],
  ['test_elicitation_sep1034_defaults', 'Asks with defaults', nothing, elicited(DEFAULTS, 'Please review the form')],
  ['test_elicitation_sep1330_enums', 'Asks for choices', nothing, elicited(CHOICES, 'Please choose')],
];

async function named(_, { mcpReq }) {
  const given = acceptedContent(mcpReq.inputResponses, 'user_name')?.name;
  return typeof given === 'string' ? text(`Hello, ${given}!`) : inputRequired({ inputRequests: { user_name: name() } });
}

async function sampled(_, { mcpReq }) {
  const given = mcpReq.inputResponses?.capital_question;
  if (given === undefined) return inputRequired({ inputRequests: { capital_question: sample('What is the capital of France?') } });
  return text(`Sampling response: ${given.content?.text ?? JSON.stringify(given)}`);
}

async function rooted(_, { mcpReq }) {
  const roots = mcpReq.inputResponses?.client_roots?.roots;
  if (!Array.isArray(roots)) return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  return text(`Client exposed ${roots.length} root(s): ${roots.map(({ uri }) => uri).join(', ')}`);
}

async function missing(_, { mcpReq }) {
  if (mcpReq.inputResponses?.llm_answer !== undefined) return text('answered');
  return inputRequired({ inputRequests: { llm_answer: sample('Reply with the single word: pong', 16) } });
}

async function capable(_, { mcpReq }) {
  if (mcpReq.inputResponses !== undefined) return text('answered');
  const declared = mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
  const inputRequests = {
    ...(declared.elicitation ? { user_name: name() } : {}),
    ...(declared.sampling ? { greeting: sample('Generate a short greeting', 50) } : {}),
    ...(declared.roots ? { client_roots: inputRequired.listRoots() } : {}),
  };
  return Object.keys(inputRequests).length === 0 ? text('nothing that could be asked') : inputRequired({ inputRequests });
}

const confirmed = (state, words) => async (_, { mcpReq }) => {
  // The SDK refused before this any state that it did not seal.
  if (mcpReq.requestState() !== undefined && acceptedContent(mcpReq.inputResponses, 'confirm') !== undefined) return text(words);
  const requestState = await state.mint({ nonce: randomUUID() });
  return inputRequired({ inputRequests: { confirm: form('ok', 'boolean', 'Please confirm') }, requestState });
};

const several = (state) => async (_, { mcpReq }) => {
  const given = mcpReq.inputResponses;
  const [who, greeting, roots] = [acceptedContent(given, 'user_name')?.name, given?.greeting?.content?.text, given?.client_roots?.roots];
  if (typeof who === 'string' && typeof greeting === 'string' && Array.isArray(roots)) return text(`${greeting} ${who}, ${roots.length} root(s)`);
  return inputRequired({
    inputRequests: { user_name: name(), greeting: sample('Generate a greeting', 50), client_roots: inputRequired.listRoots() },
    requestState: await state.mint({ nonce: randomUUID() }),
  });
};

const rounds = (state) => async (_, { mcpReq }) => {
  const { round = 0, name: before } = mcpReq.requestState() ?? {};
  const ask = async (step, request, sealed) =>
    inputRequired({ inputRequests: { [step]: request }, requestState: await state.mint({ ...sealed, nonce: randomUUID() }) });
  if (round === 0) return ask('step1', form('name', 'string', 'Step 1: What is your name?'), { round: 1 });
  const given = (step) => acceptedContent(mcpReq.inputResponses, step);
  if (round === 1) return ask('step2', form('color', 'string', 'Step 2: What is your favorite color?'), { round: 2, name: given('step1')?.name });
  return text(`Multi-round complete: ${before} likes ${given('step2')?.color}`);
};

/** `[name, description, input schema, handler]`, for states that `state` seals. */
export const tools = (state) => [
  ...BACK,
  ['test_missing_capability', 'Needs `sampling`', nothing, missing],
  ['test_input_required_result_elicitation', 'Asks for a name', nothing, named],
  ['test_input_required_result_sampling', 'Asks for a completion', nothing, sampled],
  ['test_input_required_result_list_roots', 'Asks for the roots', nothing, rooted],
  ['test_input_required_result_request_state', 'Asks, and seals its state', nothing, confirmed(state, 'state-ok')],
  ['test_input_required_result_tampered_state', 'Asks, and refuses a state that was changed', nothing, confirmed(state, 'integrity-ok')],
  ['test_input_required_result_multiple_inputs', 'Asks three things at once', nothing, several(state)],
  ['test_input_required_result_multi_round', 'Asks twice', nothing, rounds(state)],
  ['test_input_required_result_capabilities', 'Asks only what the caller can answer', nothing, capable],
];

async function contextual({ mcpReq }) {
  const given = acceptedContent(mcpReq.inputResponses, 'user_context')?.context;
  if (typeof given !== 'string') return inputRequired({ inputRequests: { user_context: form('context', 'string', 'What context should the prompt use?') } });
  return { messages: [{ role: 'user', content: { type: 'text', text: `Use the following context: ${given}` } }] };
}

/** `[name, description, arguments schema, handler]`. */
export const PROMPTS = [['test_input_required_result_prompt', 'A prompt that asks first', undefined, contextual]];

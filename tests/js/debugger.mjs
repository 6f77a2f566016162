// The debugger of ipykernel as JupyterLab's own session drives it: the same requests in the same order.
// usage: node debugger.mjs BASE_URL TOKEN

import { KernelManager } from '@jupyterlab/services';
import { equal, step, within } from './check.mjs';
import { run, settings } from './client.mjs';

const serverSettings = settings(...process.argv.slice(2));
const kernels = new KernelManager({ serverSettings });

const CELL = `def double(n):
    twice = n * 2
    return twice
numbers = [1, 2, 3]
print(double(21))`;
// With magics of ours above the line that is stopped at.
const OURS = `%nb help status
if True:
    x = %nb help
y = 4
z = %nb status
print(y)`;
const INITIALIZE = {
  clientID: 'jupyterlab', clientName: 'JupyterLab', adapterID: 'python3', pathFormat: 'path', linesStartAt1: true,
  columnsStartAt1: true, supportsVariableType: true, supportsVariablePaging: true,
  supportsRunInTerminalRequest: true, locale: 'en',
};

// Every event that a client sees, and a wait for the next of a name.
function events(kernel) {
  const seen = [], waiting = [];
  kernel.iopubMessage.connect((_, { header, content }) => {
    if (header.msg_type !== 'debug_event') return;
    seen.push(content);
    for (const look of [...waiting]) look();
  });
  const next = event => within(new Promise(resolve => {
    const look = () => {
      const at = seen.findIndex(content => content.event === event);
      if (at < 0) return;
      waiting.splice(0, waiting.length, ...waiting.filter(other => other !== look));
      resolve(seen.splice(0, at + 1).pop());
    };
    waiting.push(look);
    look();
  }), `the event ${event}`);
  return { next };
}

let seq = 0;
const kernel = await kernels.startNew({ name: 'python3' });
const witness = kernels.connectTo({ model: kernel.model, clientId: 'witness' });
const [mine, theirs] = [events(kernel), events(witness)];

async function ask(command, args = {}) {
  const future = kernel.requestDebug({ type: 'request', seq: seq++, command, arguments: args });
  const { content } = await within(future.done, command);
  // ipykernel answers `modules` itself and says of no success.
  if (!(content.success ?? command === 'modules')) throw new Error(`${command}: ${JSON.stringify(content).slice(0, 2000)}`);
  return content.body;
}
const stopped = async () => {
  const [here, there] = await Promise.all([mine.next('stopped'), theirs.next('stopped')]);
  equal(there.body, here.body, 'what the other client sees');
  return here.body;
};

async function session() {
  equal((await ask('debugInfo')).isStarted, false, 'whether it is started');
  const able = await ask('initialize', INITIALIZE);
  equal(able.supportsSetVariable, true, 'what the adapter can');
  await ask('attach');
  const { sourcePath } = await ask('dumpCell', { code: CELL });
  const { breakpoints } = await ask('setBreakpoints', {
    breakpoints: [{ line: 2 }], source: { path: sourcePath }, sourceModified: false,
  });
  equal(breakpoints.map(({ verified, line }) => [verified, line]), [[true, 2]], 'the breakpoints');
  await ask('configurationDone');
  const info = await ask('debugInfo');
  equal([info.isStarted, info.breakpoints.length], [true, 1], 'what a client that joins is told');

  const cell = run(kernel, CELL);
  const { threadId, reason } = await stopped();
  equal(reason, 'breakpoint', 'why it stopped');
  const frames = async () => (await ask('stackTrace', { threadId })).stackFrames;
  let [frame] = await frames();
  equal([frame.name, frame.line, frame.source.path], ['double', 2, sourcePath], 'the frame');
  const { scopes } = await ask('scopes', { frameId: frame.id });
  const { variables } = await ask('variables', { variablesReference: scopes[0].variablesReference });
  equal(variables.filter(({ name }) => name === 'n').map(({ value }) => value), ['21'], 'the variables');
  const { sourceReference } = frame.source;
  equal((await ask('source', { source: { path: sourcePath }, sourceReference })).content, CELL, 'the source');
  equal((await ask('evaluate', { expression: 'n + 1', frameId: frame.id, context: 'repl' })).result, '22', 'n + 1');
  const rich = await ask('richInspectVariables', { variableName: 'n', frameId: frame.id });
  equal(rich.data['text/plain'], '21', 'n');
  await ask('copyToGlobals', { srcVariableName: 'n', dstVariableName: 'copied', srcFrameId: frame.id });
  const { modules } = await ask('modules');
  equal(modules.length > 0, true, 'whether there are modules');

  await ask('next', { threadId });
  equal((await stopped()).reason, 'step', 'why it stopped');
  [frame] = await frames();
  equal(frame.line, 3, 'the line');
  await ask('stepOut', { threadId });
  await stopped();
  [frame] = await frames();
  equal([frame.name, frame.line], ['<module>', 5], 'the frame');
  await ask('continue', { threadId });
  await mine.next('continued');
  const { text, reply } = await cell;
  equal([text, reply.status], ['42\n', 'ok'], 'the cell');

  const globals = (await ask('inspectVariables')).variables;
  equal(globals.filter(({ name }) => name === 'copied').map(({ value }) => value), ['21'], 'the globals');
  const numbers = await ask('richInspectVariables', { variableName: 'numbers' });
  equal(numbers.data['text/plain'], '[1, 2, 3]', 'numbers');
  await ask('disconnect', { restart: false, terminateDebuggee: false });
  equal((await ask('debugInfo')).isStarted, false, 'whether it is started');
}

async function ours() {
  await ask('initialize', INITIALIZE);
  await ask('attach');
  const { sourcePath } = await ask('dumpCell', { code: OURS });
  const source = { path: sourcePath };
  const lines = [{ line: 3 }, { line: 4 }];
  const { breakpoints } = await ask('setBreakpoints', { breakpoints: lines, source, sourceModified: false });
  equal(breakpoints.map(({ verified, line }) => [verified, line]), [[true, 3], [true, 4]], 'the breakpoints');
  await ask('configurationDone');
  const cell = run(kernel, OURS);
  const at = async line => {
    const { threadId } = await stopped();
    const [frame] = (await ask('stackTrace', { threadId })).stackFrames;
    equal([frame.name, frame.line, frame.source.path], ['<module>', line, sourcePath], 'the frame');
    const { content } = await ask('source', { source, sourceReference: frame.source.sourceReference });
    equal(content, OURS, 'the source');
    return threadId;
  };
  await ask('continue', { threadId: await at(3) });
  const threadId = await at(4);
  // Over one of ours, which is one step.
  await ask('next', { threadId });
  await at(5);
  await ask('next', { threadId });
  await at(6);
  await ask('continue', { threadId });
  const { text, reply } = await cell;
  equal([text, reply.status], ['4\n', 'ok'], 'the cell');
  await ask('disconnect', { restart: false, terminateDebuggee: false });
}

await step('the kernel has a debugger', async () => {
  const { supported_features: features } = await kernel.info;
  equal(features.includes('debugger'), true, 'the features');
});
await step('a session from the first request to the last', session);
await step('lines of a cell with magics of ours', ours);
await step('another after a restart', async () => {
  await kernel.restart();
  seq = 0;
  await session();
});
await step('a restart ends a cell that a breakpoint holds', async () => {
  await ask('initialize', INITIALIZE);
  await ask('attach');
  const { sourcePath } = await ask('dumpCell', { code: CELL });
  await ask('setBreakpoints', { breakpoints: [{ line: 2 }], source: { path: sourcePath }, sourceModified: false });
  await ask('configurationDone');
  // The client forgets what it has sent when it restarts a kernel.
  run(kernel, CELL).catch(() => {});
  await stopped();
  await kernel.restart();
  equal((await run(kernel, 'print("again")')).text, 'again\n', 'the output');
});
await kernel.shutdown();
process.exit(0);

// VS Code's "Existing Jupyter Server" against a gateway, played with the library that it uses.
// usage: node vscode.mjs BASE_URL TOKEN
//
// VS Code itself cannot be had here. What it asks and when it listens is written down from the source of its
// Jupyter extension, 2026.6.1: jupyterConnection.ts and jupyterPasswordConnect.ts (probes), jupyterKernelSessionFactory.ts
// (sessions), kernelInfo.ts (how long it waits for an answer), vscodeNotebookController.ts `restoreConnection` and
// cellExecutionMessageHandler.ts (the resume of a cell after the window was loaded anew).

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { equal, step, within } from './check.mjs';
import { Window } from './window.mjs';

const [baseUrl, token] = process.argv.slice(2);
const authorization = { Authorization: `token ${token}` };
const folder = mkdtempSync(join(tmpdir(), 'nb-vscode-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function start(window, name) {
  const session = await window.sessions.startNew({
    path: `${name}-jvsc-5bbd4c07-not-there.ipynb`, name: `${name}-5bbd4c07.ipynb`, type: 'notebook', kernel: { name: 'python3' },
  });
  await session.kernel.info;
  return session;
}

// A cell that prints `before`, waits to be let go, and prints `after`.
function cell(name) {
  const gate = join(folder, name);
  return {
    letGo: () => writeFileSync(gate, ''),
    code: `import os, time
print("before", flush=True)
while not os.path.exists(${JSON.stringify(gate)}): time.sleep(0.05)
print("after", flush=True)
6*7`,
  };
}

// Runs the cell in a window until it has said "before" and the gateway knows that it was heard.
async function begin(window, session, code) {
  const future = session.kernel.requestExecute({ code, store_history: true }, false, { cellId: 'vscode-notebook-cell:1' });
  await new Promise(resolve => {
    future.onIOPub = ({ header, content }) => header.msg_type === 'stream' && content.text.includes('before') && resolve();
  });
  await window.settle();
  return { id: future.msg.header.msg_id, kernelId: session.kernel.id };
}

// What `restoreConnection` does in a window that was loaded anew. `isKnown`: it has an answer to kernel_info in its
// memory, else it waits five seconds for one. `onFirst` is called once it has heard of the cell. Resolves with what the
// cell then shows and how it ended.
async function resume(window, { id, kernelId }, isKnown, onFirst) {
  await window.sessions.refreshRunning();
  const model = [...window.sessions.running()].find(model => model.kernel.id === kernelId);
  const session = window.sessions.connectTo({ model });
  const { kernel } = session;
  while (kernel.connectionStatus !== 'connected') await sleep(100);
  // These wait in the kernel while it is busy.
  const quiet = kernel.requestExecute({ code: '1', silent: true, store_history: false });
  quiet.done.catch(() => {});
  const info = kernel.requestKernelInfo();
  info.catch(() => {});
  await Promise.race([kernel.info, info, sleep(isKnown ? 0 : 5000)]);
  await sleep(20);

  const parent = msg => msg.parent_header.msg_id;
  const isIdle = msg => msg.header.msg_type === 'status' && msg.content.execution_state === 'idle';
  await new Promise(resolve => {
    const first = (_, { direction, msg }) => {
      if (direction === 'send' || parent(msg) !== id || isIdle(msg)) return;
      kernel.anyMessage.disconnect(first);
      resolve();
    };
    kernel.anyMessage.connect(first);
  });
  onFirst();
  await sleep(50);
  const shown = [];
  let gotIdle = false, gotReply = false, timer;
  return new Promise(resolve => {
    const end = how => {
      clearTimeout(timer);
      resolve({ shown, how, session });
    };
    kernel.anyMessage.connect((_, { direction, msg }) => {
      if (direction !== 'recv') return;
      const mine = parent(msg) === id;
      gotIdle ||= mine && isIdle(msg);
      gotReply ||= mine && msg.channel === 'shell';
      const { msg_type } = msg.header;
      if (mine && msg_type === 'stream') shown.push(msg.content.text);
      if (mine && msg_type === 'execute_result') shown.push(msg.content.data['text/plain']);
      if (gotIdle && gotReply) return end('completed');
      const isBusyWithAnother = msg_type === 'status' && !isIdle(msg) && !mine;
      const another = parent(msg) && !mine && !isBusyWithAnother;
      if (another || ['kernel_info_reply', 'execute_input', 'execute_reply'].includes(msg_type)) {
        clearTimeout(timer);
        timer = setTimeout(end, 100, `taken for ended by ${msg_type}`);
      }
    });
  });
}

const probe = (path, options) => fetch(new URL(path, baseUrl), { redirect: 'manual', ...options });

await step('probes without a token', async () => {
  const root = await probe('');
  equal([root.status, root.url.includes('login')], [200, false], 'the root');
  for (const [path, status] of [['hub/api', 404], ['tree?', 404], ['login?', 404], ['api/kernels', 401]])
    equal((await probe(path)).status, status, path);
});
await step('probes of an editor in a browser', async () => {
  const asked = { Origin: 'https://vscode.dev', 'Access-Control-Request-Method': 'GET' };
  equal((await probe('api/kernels', { method: 'OPTIONS', headers: asked })).status < 500, true, 'a preflight');
});
await step('the server is accepted and its kernels listed', async () => {
  for (const path of ['api/kernels', 'api/kernelspecs', 'api/sessions'])
    equal((await probe(path, { headers: authorization })).status, 200, path);
});
await step('every session that is listed has a kernel', async () => {
  const window = new Window(baseUrl, token);
  const session = await start(window, 'listed');
  const listed = await (await probe('api/sessions', { headers: authorization })).json();
  equal(listed.every(session => session.kernel?.id), true, 'the kernels');
  await session.shutdown();
  window.vanish();
});
await step('a notebook whose path is nowhere runs, is interrupted and restarted', async () => {
  const window = new Window(baseUrl, token);
  const session = await start(window, 'runs');
  const idle = (await session.kernel.requestExecute({ code: 'import os; os.getcwd()' }).done).content.status;
  equal(idle, 'ok', 'the cell');
  const loop = session.kernel.requestExecute({ code: 'while True: pass' });
  await new Promise(resolve => { loop.onIOPub = ({ header }) => header.msg_type === 'execute_input' && resolve(); });
  await session.kernel.interrupt();
  equal((await loop.done).content.ename, 'KeyboardInterrupt', 'the loop');
  await session.kernel.restart();
  equal((await session.kernel.requestExecute({ code: '1' }).done).content.execution_count, 1, 'the count');
  await session.shutdown();
  window.vanish();
});
await step('a kernel that is busy is connected to at once, says so first, and gives no kernel_info before it is done', async () => {
  const [first, second] = [new Window(baseUrl, token), new Window(baseUrl, token)];
  const { code, letGo } = cell('busy');
  const session = await start(first, 'busy');
  const { id, kernelId } = await begin(first, session, code);
  await second.sessions.refreshRunning();
  const model = [...second.sessions.running()].find(model => model.kernel.id === kernelId);
  const { kernel } = second.sessions.connectTo({ model });
  const seen = [];
  kernel.anyMessage.connect((_, { direction, msg }) => {
    if (direction === 'recv') seen.push([msg.header.msg_type, msg.content.execution_state, msg.parent_header.msg_id]);
  });
  while (!seen.length) await sleep(10);
  equal(seen[0], ['status', 'busy', id], 'the first message');
  // The kernel answers on another channel, and its answer passes whatever is kept for the cell.
  await kernel.requestDebug({ type: 'request', seq: 1, command: 'debugInfo', arguments: {} }).done;
  const isInformed = () => seen.some(([type]) => type === 'kernel_info_reply');
  equal(isInformed(), false, 'an answer before the kernel is done');
  letGo();
  while (!isInformed()) await sleep(10);
  await session.shutdown();
  [first, second].forEach(window => window.vanish());
});

// Each takes its time, as VS Code does; together they take it once.
const reload = (name, isKnown, isOver) => async () => {
  const window = new Window(baseUrl, token);
  const { code, letGo } = cell(name.replaceAll(' ', '-'));
  const running = await begin(window, await start(window, name), code);
  window.vanish();
  if (isOver) {
    letGo();
    const state = async () => (await (await probe(`api/kernels/${running.kernelId}`, { headers: authorization })).json()).execution_state;
    while (await state() !== 'idle') await sleep(50);
  }
  const again = new Window(baseUrl, token);
  const resumed = resume(again, running, isKnown, isOver ? () => {} : letGo);
  const { shown, how, session } = await within(resumed, 'the end of the cell');
  equal([shown, how], [['after\n', '42'], 'completed'], name);
  await session.shutdown();
  again.vanish();
};
await Promise.all([
  ['a cell that runs goes on in a window that is loaded anew', false, false],
  ['so it does in one that knows the kernel', true, false],
  ['a cell that ended while no window was there is shown', false, true],
  ['so it is in one that knows the kernel', true, true],
].map(([name, ...how]) => step(name, reload(name, ...how))));
process.exit(0);

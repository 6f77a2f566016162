// @jupyterlab/services against a gateway, as JupyterLab's own pages use it.
// usage: node services.mjs BASE_URL TOKEN [stock|legacy]
//
// `legacy`: in the legacy framing, as old clients talk.
// `stock`: there is a stock jupyter_server in between. Two things are beyond it, whatever the gateway does: it takes
// every message from a gateway for text, so buffers are left out; and its WebSocket client takes 10 MiB at most, so
// larger text comes in pieces, other output is replaced by a word about it, and a reply by an error.

import { KernelAPI, KernelManager, SessionManager, KernelSpecAPI } from '@jupyterlab/services';
import { equal, step } from './check.mjs';
import { run, settings } from './client.mjs';

const [baseUrl, token, how] = process.argv.slice(2);
const stock = how === 'stock' ? true : undefined;
const serverSettings = settings(baseUrl, token, how === 'legacy');
const kernels = new KernelManager({ serverSettings });
const sessions = new SessionManager({ serverSettings, kernelManager: kernels });

const begun = kernel => new Promise(resolve => kernel.iopubMessage.connect((_, { header, content }) => {
  if (header.msg_type === 'stream' && content.text.includes('begun')) resolve();
}));
const SLEEP = 'print("begun", flush=True)\nimport time\ntime.sleep(600)';
const ECHO = `def opened(comm, _):
    @comm.on_msg
    def echo(msg):
        comm.send({"got": [bytes(b).hex() for b in msg["buffers"]]}, buffers=msg["buffers"])
get_ipython().kernel.comm_manager.register_target("echo", opened)`;

let session, kernel;
await step('kernelspecs are listed', async () => {
  const specs = await KernelSpecAPI.getSpecs(serverSettings);
  equal(specs.default, 'python3', 'the default');
  const icon = specs.kernelspecs.python3.resources['logo-64x64'];
  const response = await fetch(new URL(icon, baseUrl), { headers: { Authorization: `token ${token}` } });
  const bytes = Buffer.from(await response.arrayBuffer());
  equal([response.status, bytes.toString('latin1', 1, 4)], [200, 'PNG'], 'the icon');
});
await step('a kernel is started, listed, restarted and ended by REST alone', async () => {
  const { id } = await KernelAPI.startNew({ name: 'python3' }, serverSettings);
  const listed = async () => (await KernelAPI.listRunning(serverSettings)).map(model => model.id);
  equal(await listed(), [id], 'the kernels');
  await KernelAPI.restartKernel(id, serverSettings);
  await KernelAPI.interruptKernel(id, serverSettings);
  equal((await KernelAPI.getKernelModel(id, serverSettings)).id, id, 'the kernel');
  await KernelAPI.shutdownKernel(id, serverSettings);
  equal(await listed(), [], 'the kernels');
  equal(await KernelAPI.getKernelModel(id, serverSettings), undefined, 'the kernel');
});
await step('a session starts its kernel', async () => {
  session = await sessions.startNew({ path: 'a.ipynb', name: 'a', type: 'notebook', kernel: { name: 'python3' } });
  kernel = session.kernel;
  equal((await kernel.info).implementation, 'ipython', 'the implementation');
});
await step('a cell runs', async () => equal((await run(kernel, 'print(6*7)')).text, '42\n', 'the output'));
await step('5 MB of output arrive', async () =>
  equal((await run(kernel, 'print("x" * 5_000_000)')).text.length, 5_000_001, 'the length'));
await step('12 MB of text arrive', async () =>
  equal((await run(kernel, 'print("x" * 12_000_000)')).text.length, 12_000_001, 'the length'));
await step('12 MB of other output arrive, or a word about them', async () => {
  const { text, largest } = await run(kernel, `from IPython.display import display
display({"text/plain": "x" * 12_000_000}, raw=True)`);
  equal([largest > 12_000_000, text.includes('10 MiB')], [!stock, Boolean(stock)], 'the output');
});
await step('a reply of 12 MB arrives, or an error in its place', async () => {
  const future = kernel.requestExecute({ code: '', user_expressions: { x: '"x" * 12_000_000' } });
  equal((await future.done).content.ename, stock && 'ReplyTooLarge', 'the error');
});
await step('buffers go to the kernel and come back', async () => {
  await run(kernel, ECHO);
  const comm = kernel.createComm('echo');
  await comm.open().done;
  const back = new Promise(resolve => { comm.onMsg = resolve; });
  comm.send({}, {}, [new Uint8Array([0xff, 0, 0xfe]).buffer]);
  const { content, buffers } = await back;
  equal(content.data.got, ['ff00fe'], 'what the kernel got');
  equal(buffers.map(view => Buffer.from(view.buffer ?? view).toString('hex')), stock ? [] : ['ff00fe'], 'what came back');
});
await step('a question is answered', async () =>
  equal((await run(kernel, 'print(input("name?"))', { answer: 'Ada' })).text, 'Ada\n', 'the answer'));
await step('names are completed', async () => {
  // A magic: for other names the first answer of a fresh home takes seconds.
  const { content } = await kernel.requestComplete({ code: '%pw', cursor_pos: 3 });
  equal(content.matches, ['%pwd'], 'the names');
});
await step('our magic is completed and explained', async () => {
  const { content } = await kernel.requestComplete({ code: '%nb sta', cursor_pos: 7 });
  equal(content.matches, ['status'], 'the names');
  const { content: said } = await kernel.requestInspect({ code: '%nb status', cursor_pos: 8, detail_level: 0 });
  equal(said.data['text/plain'].startsWith('%nb status: '), true, 'the word of it');
});
await step('our magic is a value', async () =>
  equal((await run(kernel, 'x = %nb status\nprint("kernel" in str(x))')).text, 'True\n', 'the status'));
await step('an interrupt ends a cell', async () => {
  const running = begun(kernel);
  const cell = run(kernel, SLEEP);
  await running;
  await kernel.interrupt();
  equal((await cell).reply.ename, 'KeyboardInterrupt', 'the error');
});
await step('a restart gives a fresh kernel', async () => {
  await run(kernel, 'y = 1');
  await kernel.restart();
  equal((await run(kernel, 'y')).reply.ename, 'NameError', 'the error');
});
await step('a killed kernel comes back', async () => {
  // The client forgets what it has sent when it hears of the restart, so it waits for the end of it.
  const back = new Promise(resolve => {
    let gone = false;
    kernel.statusChanged.connect((_, status) => {
      gone ||= status.endsWith('restarting');
      if (gone && status === 'idle') resolve();
    });
  });
  const died = run(kernel, 'import os; os.kill(os.getpid(), 9)').catch(error => error);
  await Promise.all([died, back]);
  equal((await run(kernel, 'print("again")')).text, 'again\n', 'the output');
});
await step('a session is renamed', async () => {
  await session.setPath('b/c.ipynb');
  await sessions.refreshRunning();
  equal([...sessions.running()].map(model => model.path), ['b/c.ipynb'], 'the paths');
});
await step('a shutdown ends session and kernel', async () => {
  await session.shutdown();
  equal((await KernelAPI.listRunning(serverSettings)).length, 0, 'kernels left');
});
process.exit(0);

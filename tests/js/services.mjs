// @jupyterlab/services against a gateway, as JupyterLab's own pages use it.
// usage: node services.mjs BASE_URL TOKEN

import { KernelAPI, KernelManager, SessionManager, KernelSpecAPI } from '@jupyterlab/services';
import { equal, step } from './check.mjs';
import { run, settings } from './client.mjs';

const [baseUrl, token] = process.argv.slice(2);
const serverSettings = settings(baseUrl, token);
const kernels = new KernelManager({ serverSettings });
const sessions = new SessionManager({ serverSettings, kernelManager: kernels });

const begun = kernel => new Promise(resolve => kernel.iopubMessage.connect((_, { header, content }) => {
  if (header.msg_type === 'stream' && content.text.includes('begun')) resolve();
}));
const SLEEP = 'print("begun", flush=True)\nimport time\ntime.sleep(600)';

let session, kernel;
await step('kernelspecs are listed', async () => {
  const specs = await KernelSpecAPI.getSpecs(serverSettings);
  equal(specs.default, 'python3', 'the default');
});
await step('a session starts its kernel', async () => {
  session = await sessions.startNew({ path: 'a.ipynb', name: 'a', type: 'notebook', kernel: { name: 'python3' } });
  kernel = session.kernel;
  equal((await kernel.info).implementation, 'ipython', 'the implementation');
});
await step('a cell runs', async () => equal((await run(kernel, 'print(6*7)')).text, '42\n', 'the output'));
await step('5 MB of output arrive', async () =>
  equal((await run(kernel, 'print("x" * 5_000_000)')).text.length, 5_000_001, 'the length'));
await step('a question is answered', async () =>
  equal((await run(kernel, 'print(input("name?"))', { answer: 'Ada' })).text, 'Ada\n', 'the answer'));
await step('names are completed', async () => {
  const { content } = await kernel.requestComplete({ code: 'impor', cursor_pos: 5 });
  equal(content.matches.includes('import'), true, 'import');
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

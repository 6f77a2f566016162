// @jupyterlab/services while the network goes away for 5 s in the middle of a cell.
// usage: node cut.mjs BASE_URL TOKEN CONTROL_PORT HOW...

import { KernelManager } from '@jupyterlab/services';
import { equal, step } from './check.mjs';
import { run, settings } from './client.mjs';
import { CELL, FIRST, complete, cut } from './cutter.mjs';

const [baseUrl, token, control, ...ways] = process.argv.slice(2);
const kernels = new KernelManager({ serverSettings: settings(baseUrl, token) });
const kernel = await kernels.startNew({ name: 'python3' });

for (const how of ways) {
  await step(`a cell goes on through a cut (${how})`, async () => {
    let twice;
    const { text, reply } = await run(kernel, CELL, {
      onText: text => { if (text.endsWith(FIRST)) twice ??= cut(control, how, 5000); },
    });
    equal(reply.status, 'ok', 'the reply');
    equal(typeof await twice, 'number', 'the cut');
    console.log(`${complete(text, await twice)} of at most ${await twice} lines came twice`);
  });
  await step('the next cell runs', async () => equal((await run(kernel, 'print("on")')).text, 'on\n', 'the output'));
}
await kernel.shutdown();
process.exit(0);

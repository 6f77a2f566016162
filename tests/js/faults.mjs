// A client that runs a cell once for each line that comes in, says `fault` when a fault may come, and then all that the
// cell has shown. `vscode`: what VS Code asks for (vscode.mjs), `lab`: what Lab's page does, without the page.
// usage: node faults.mjs lab|vscode BASE_URL TOKEN CELL

import { createInterface } from 'node:readline';
import { KernelManager, SessionManager } from '@jupyterlab/services';
import { within } from './check.mjs';
import { settings } from './client.mjs';
import { FIRST } from './cutter.mjs';
import { Window } from './window.mjs';

const [client, baseUrl, token, code] = process.argv.slice(2);
const isCode = client === 'vscode';
const sessions = isCode ? new Window(baseUrl, token).sessions : sessionsOfLab();
const [path, name] = isCode ? ['faults-jvsc-5bbd4c07-not-there.ipynb', 'faults-5bbd4c07.ipynb'] : ['faults.ipynb', 'faults.ipynb'];
const session = await sessions.startNew({ path, name, type: 'notebook', kernel: { name: 'python3' } });
const { kernel } = session;
await kernel.info;
console.log('ready', kernel.id);
for await (const _ of createInterface({ input: process.stdin })) {
  const metadata = { cellId: isCode ? 'vscode-notebook-cell:1' : '8f2b6a1e' };
  const future = kernel.requestExecute({ code, store_history: true }, false, metadata);
  let text = '';
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type !== 'stream') return;
    text += content.text;
    if (text.endsWith(FIRST)) console.log('fault');
  };
  const reply = await within(future.done, 'the end of the cell');
  if (reply.content.status !== 'ok') throw new Error(JSON.stringify(reply.content));
  console.log('counted', JSON.stringify(text));
}
await session.shutdown();
process.exit(0);

function sessionsOfLab() {
  const serverSettings = settings(baseUrl, token);
  return new SessionManager({ serverSettings, kernelManager: new KernelManager({ serverSettings }) });
}

// From a request to the text that comes of it, with @jupyterlab/services in Node: measured, not judged.
// usage: node round_trip.mjs BASE_URL TOKEN WHAT

import { setTimeout as pause } from 'node:timers/promises';
import { KernelManager } from '@jupyterlab/services';
import { settings } from './client.mjs';

const [baseUrl, token, what] = process.argv.slice(2);
const [WARM_UP, CELLS, PAUSE_MS] = [10, 100, 150];
const kernels = new KernelManager({ serverSettings: settings(baseUrl, token) });
const kernel = await kernels.startNew({ name: 'python3' });
await kernel.info;
const [text, done] = [[], []];
for (let n = 0; n < WARM_UP + CELLS; n++) {
  const begun = performance.now();
  const future = kernel.requestExecute({ code: `print("cell", ${n})` });
  future.onIOPub = ({ header }) => { if (header.msg_type === 'stream') text.push(performance.now() - begun); };
  await future.done;
  done.push(performance.now() - begun);
  // As people do: TCP acknowledges late what comes now and then.
  await pause(PAUSE_MS);
}
const shown = taken => {
  const sorted = taken.slice(WARM_UP).sort((a, b) => a - b);
  return [0.1, 0.5, 0.9].map(part => sorted[Math.floor(part * (sorted.length - 1))].toFixed(0)).join(' / ');
};
console.log(`${what}, Node, ms p10 / p50 / p90: request to text ${shown(text)}, to reply and idle ${shown(done)}`);
await kernel.shutdown();
process.exit(0);

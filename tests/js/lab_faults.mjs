// JupyterLab in headless Chromium, which runs a cell once for each line that comes in: see faults.mjs.
// usage: node lab_faults.mjs LAB_URL SCREENSHOT_FOLDER CELL

import { createInterface } from 'node:readline';
import { step } from './check.mjs';
import { FIRST } from './cutter.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, code] = process.argv.slice(2);
const { origin, searchParams } = new URL(url);
const headers = { Authorization: `token ${searchParams.get('token')}` };

await withLab(url, shots, async ({ open, submit, output, closeAwayDialogs, shown, state }) => {
  await closeAwayDialogs();
  await step('a notebook opens', open);
  const kernels = await (await fetch(`${origin}/api/kernels`, { headers })).json();
  console.log('ready', kernels[0].id);
  for await (const _ of createInterface({ input: process.stdin })) {
    const cell = await submit(code);
    await output(cell, FIRST.trim());
    console.log('fault');
    await output(cell, 'the end');
    console.log('counted', JSON.stringify(await shown(cell)));
    await state('Idle');
  }
});

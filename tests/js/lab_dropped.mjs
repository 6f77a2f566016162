// JupyterLab in headless Chromium whose packets to its server vanish for minutes, while one cell finishes and the next
// one prints. Says `cut` when they may, `back` when the page has what it missed, and reads a line when they pass again.
// usage: node lab_dropped.mjs LAB_URL SCREENSHOT_FOLDER

import { createInterface } from 'node:readline';
import { equal, step } from './check.mjs';
import { withLab } from './notebook.mjs';

const [url, shots] = process.argv.slice(2);
const orders = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Prints until there is this file.
const cell = file => `import os, time
n = 0
while not os.path.exists("${file}"):
    print("line", n, flush=True)
    n += 1
    time.sleep(0.1)
print("the end after", n)`;

// What a cell has shown: as many lines as it has said, each once, in order.
function count(shown, name) {
  const sent = Number(shown.match(/the end after (\d+)\n*$/)?.[1]);
  const expected = [...Array(sent).keys()].map(n => `line ${n}\n`).join('') + `the end after ${sent}`;
  if (shown.trimEnd() !== expected) throw new Error(`lines are lost, doubled or out of order:\n${shown}`);
  console.log(`${name}: ${sent} lines sent, ${sent} received, 0 twice`);
}

await withLab(url, shots, async ({ page, open, submit, output, closeAwayDialogs, shown, state, prompts, shoot }) => {
  await closeAwayDialogs();
  await step('a notebook opens', open);
  const first = await submit(cell('first-ends'));
  const second = await submit(cell('second-ends'));
  await step('a cell prints', () => output(first, 'line 9'));
  console.log('cut');
  await orders.next();
  await shoot('dropped-away');
  await step('the cell that finished meanwhile has its end', () => output(first, 'the end after'));
  await step('the one that prints still goes on', () => output(second, 'line 9'));
  await shoot('dropped-back');
  console.log('back');
  await step('it finishes', () => output(second, 'the end after'));
  count(await shown(first), 'finished meanwhile');
  count(await shown(second), 'went on');
  await step('the next cell runs', async () => output(await submit('print("on")'), 'on'));
  await state('Idle');
  equal(await prompts(), 0, 'prompts on the page');
});

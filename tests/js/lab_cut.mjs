// JupyterLab in headless Chromium while something goes away for 5 s in the middle of a cell: its server loses the
// gateway, or with `browser` the browser loses the server.
// usage: node lab_cut.mjs LAB_URL SCREENSHOT_FOLDER CONTROL_PORT [browser]

import { equal, step } from './check.mjs';
import { CELL, FIRST, complete, cut } from './cutter.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, control, browser] = process.argv.slice(2);
const shot = browser ? 'browser-cut' : 'cut';

await withLab(url, shots, async ({ page, open, submit, output, closeAwayDialogs, shown, press, state, saveAndReload, cell, prompts, shoot }) => {
  if (browser) await closeAwayDialogs();
  await step('a notebook opens', open);
  let twice;
  await step('a cell goes on through a cut', async () => {
    const running = await submit(CELL);
    await output(running, FIRST.trim());
    twice = await cut(control, 'rst', 5000);
    await shoot(`${shot}-away`);
    await output(running, 'the end');
    await state('Idle');
    console.log(`${complete(await shown(running), twice)} of at most ${twice} lines came twice`);
    await shoot(`${shot}-back`);
  });
  await step('the next cell runs', async () => output(await submit('kept = 1\nprint("on")'), 'on'));
  await step('after a reload the kernel is busy, all lines are there and later cells run', async () => {
    await output(await submit('print("begun", flush=True)\ntime.sleep(600)'), 'begun');
    await saveAndReload();
    await state('Busy');
    await press('notebook:interrupt-kernel');
    await state('Idle');
    complete(await shown(cell(0)), twice);
    await output(await submit('print("kept", kept)'), 'kept 1');
  });
  equal(await prompts(), 0, 'prompts on the page');
  await shoot(`${shot}-end`);
});

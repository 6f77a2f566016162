// JupyterLab of `nb up` in headless Chromium, whose server is killed in the middle of a cell: the page stays as it is.
// usage: node lab_killed.mjs LAB_URL SCREENSHOT_FOLDER HOME

import { execFileSync } from 'node:child_process';
import { equal, step } from './check.mjs';
import { CELL, FIRST, complete } from './cutter.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, home] = process.argv.slice(2);

await withLab(url, shots, async ({ page, open, submit, output, closeAwayDialogs, shown, state, prompts, shoot }) => {
  await closeAwayDialogs();
  await step('a notebook opens', open);
  await step('a cell goes on while the server of the page is killed', async () => {
    const running = await submit(CELL);
    await output(running, FIRST.trim());
    execFileSync('pkill', ['-KILL', '-f', ` -m jupyterlab .*=${home}/`]);
    await output(running, 'the end');
    await state('Idle');
    // A killed server has told nobody what the page had: all of it may come again, and none may be missing.
    complete(await shown(running), 80);
    await shoot('lab-killed');
  });
  await step('the next cell has the same kernel', async () => output(await submit('print("n is", n)'), 'n is 79'));
  equal(await prompts(), 0, 'prompts on the page');
});

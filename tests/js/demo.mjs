// docs/demo.ipynb in JupyterLab in headless Chromium, cell by cell, with what its text says is to be done meanwhile.
// usage: node demo.mjs LAB_URL SCREENSHOT_FOLDER CONTROL_PORT NB
// NB is the file that the server was started from. The browser comes through the cutter of CONTROL_PORT.

import { execFileSync } from 'node:child_process';
import { copyFileSync, renameSync } from 'node:fs';
import { equal, step } from './check.mjs';
import { FIRST, complete, cut } from './cutter.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, control, nb] = process.argv.slice(2);

// As `pkill -f 'nb serve'`, but of this server alone.
const endGateway = signal => execFileSync('pkill', [signal, '-f', `^nb serve .*${nb.replace(/nb$/, 'run')}/`]);

await withLab(url, shots, async ({ page, reopen, output, closeAwayDialogs, shown, press, state, prompts, shoot }) => {
  await closeAwayDialogs();
  // Runs the cell with this text, the first one or a later one.
  const run = async (text, n = 0) => {
    const cell = page.locator('.jp-CodeCell').filter({ has: page.locator('.jp-InputArea', { hasText: text }) }).nth(n);
    await cell.locator('.cm-content').click();
    await page.keyboard.press('Shift+Enter');
    return cell;
  };
  const look = async (shot, at, block = 'center') => {
    await at.evaluate((element, block) => element.scrollIntoView({ block }), block);
    await shoot(`demo-${shot}`);
  };

  await step('the notebook opens', async () => {
    await reopen('demo.ipynb');
    await state('Idle');
    for (const text of ['seconds = 8', 'mkdtemp']) await run(text);
  });
  await step('a cell goes on while the gateway is killed and upgraded', async () => {
    const counts = await run('import time');
    await output(counts, FIRST.trim());
    endGateway('-KILL');
    await output(counts, 'line 30');
    copyFileSync(nb, `${nb}.new`);
    renameSync(`${nb}.new`, nb);
    endGateway('-TERM');
    await look('gateway', page.locator('.jp-MarkdownCell', { hasText: 'pkill' }), 'start');
    await output(counts, 'the end');
    equal(complete(await shown(counts), 0), 0, 'lines that came twice');
  });
  await step('a cell goes on while the network is cut', async () => {
    const counts = await run('print("the end")', 1);
    await output(counts, FIRST.trim());
    const twice = await cut(control, 'rst', 4000);
    await output(counts, 'the end');
    complete(await shown(counts), twice);
  });
  await step('packages are there at once', async () => {
    await output(await run('%pip install'), "'3,214,556'");
    await output(await run('trips.to_parquet'), 'Rome');
  });
  await step('SQL asks a file and a frame', async () => {
    await run('far = 2');
    const first = await run('per_km');
    await output(first, /20 of 2,7\d\d,\d\d\d rows/);
    await output(await run('%%sql fares'), 'Oslo');
    await look('sql', first, 'start');
  });
  await step('an interrupt ends a query', async () => {
    await run('import signal');
    const query = await run("'trips.parquet' a");
    await output(query, '%');
    await look('query', query);
    await press('notebook:interrupt-kernel');
    await output(query, 'KeyboardInterrupt');
  });
  await step('an old pandas beside the new one', async () => {
    const old = await run('%%venv');
    await output(old, 'this is pandas 2.1');
    const now = await run('shares.plot');
    await output(now, 'this is pandas 3');
    await now.locator('.jp-OutputArea img').waitFor();
    await look('venv', old, 'start');
  });
  await step('a pex is loaded', async () => output(await run('%pex_load'), '| moo |'));
  await step('Scala has the frame', async () => {
    const scala = await run('%%kernel scala');
    await output(scala, '"Oslo" -> ');
    await look('scala', scala);
  });
  await step('the notebook is a job of its own', async () => {
    const job = await run('!nb run');
    await output(job, /\d+K job.ipynb/);
    await look('job', job);
  });
  equal(await prompts(), 0, 'prompts on the page');
});

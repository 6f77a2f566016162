// JupyterLab in headless Chromium, whose page is closed, unsaved, while a cell runs, and opened again when it is over,
// while it still runs, or after a cell whose end it has seen.
// usage: node lab_closed.mjs LAB_URL SCREENSHOT_FOLDER ROOT
// ROOT is the folder that Lab shows.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { equal, step } from './check.mjs';
import { CELL, FIRST, complete } from './cutter.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, root] = process.argv.slice(2);
const { origin, searchParams } = new URL(url);
const headers = { Authorization: `token ${searchParams.get('token')}` };
const NOTEBOOK = 'Untitled.ipynb';

// Its lines, of which the second half waits for a file.
const GATE = 'gate';
const HELD = `import os, time
for n in range(80):
    print("line", n, flush=True)
    while n == 40 and not os.path.exists("${GATE}"):
        time.sleep(0.1)
print("the end")`;

const get = async path => {
  const answer = await fetch(`${origin}/api/${path}`, { headers });
  return answer.ok ? answer.json() : {};
};

// Asks until there is something; the step's own deadline ends it.
async function until(look) {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise(done => setTimeout(done, 100));
  }
}

// A cell as it is in the file, once it is so. Not by way of Lab's server: it writes in place, and when it is asked for a
// file that is half written it takes that for broken and puts the one before in its place.
const saved = (n, fits) =>
  until(async () => {
    const text = await readFile(join(root, NOTEBOOK), 'utf8');
    const cell = parsed(text)?.cells[n];
    return cell && fits(cell) && cell;
  });
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
const marked = n => saved(n, cell => cell.metadata.nb?.running);
const unmarked = n => saved(n, cell => !cell.metadata.nb && cell.execution_count !== null);
const idle = () => until(async () => (await get('kernels'))[0].execution_state === 'idle');
const prompt = (cell, text) => cell.locator('.jp-InputPrompt', { hasText: text }).waitFor();

// Lets a cell go on.
async function open(gate) {
  const file = { type: 'file', format: 'text', content: '' };
  const put = { method: 'PUT', headers, body: JSON.stringify(file) };
  equal((await fetch(`${origin}/api/contents/${gate}`, put)).status, 201, 'the gate');
}

// What the file says of a cell that is over.
function check(cell, count, msMin) {
  equal(cell.execution_count, count, 'the count');
  complete(cell.outputs[0].text.join(''), 0);
  equal(cell.outputs.length, 2, 'outputs');
  equal(cell.outputs[1].data['text/plain'], [`'result ${count}'`], 'the result');
  const times = cell.metadata.execution;
  const names = ['iopub.status.busy', 'iopub.execute_input', 'shell.execute_reply', 'iopub.status.idle'];
  const [busy, , reply] = names.map(name => Date.parse(times[name]));
  if (!(reply - busy >= msMin)) throw new Error(`the cell took its time: ${JSON.stringify(times)}`);
  if (!Number.isFinite(Date.parse(times['shell.execute_reply.started']))) throw new Error('no start');
}

await withLab(url, shots, async lab => {
  await step('a notebook opens', lab.open);
  await step('a cell runs, and the file knows it', async () => {
    await lab.output(await lab.submit(`${CELL}\n'result 1'`), FIRST.trim());
    const { metadata, execution_count } = await marked(0);
    equal([execution_count, typeof metadata.nb.running.kernel_id], [null, 'string'], 'the mark');
  });
  await step('closed until it is over, the page shows all of it once', async () => {
    lab = await lab.close();
    await idle();
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(0), 'the end');
    await prompt(lab.cell(0), '[1]:');
    complete((await lab.shown(lab.cell(0))).replace(`'result 1'`, ''), 0);
    check(await unmarked(0), 1, 8000);
    await lab.shoot('closed-over');
  });
  await step('closed while a cell runs, the page shows it go on', async () => {
    await lab.output(await lab.submit(`${HELD}\n'result 2'`), 'line 40');
    await marked(1);
    lab = await lab.close();
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(1), 'line 40');
    await prompt(lab.cell(1), '[*]:');
    await lab.shoot('closed-running');
    await open(GATE);
    await lab.output(lab.cell(1), 'result 2');
    await prompt(lab.cell(1), '[2]:');
    complete((await lab.shown(lab.cell(1))).replace(`'result 2'`, ''), 0);
    check(await unmarked(1), 2, 1);
  });
  await step('what a page has shown and not saved is there in the next', async () => {
    // A page that is new is far from Lab's own next save.
    lab = await lab.close();
    await lab.reopen(NOTEBOOK);
    await lab.state('Idle');
    await lab.output(await lab.submit(`${CELL}\n'result 3'`), 'result 3');
    lab = await lab.close();
    const { outputs } = await marked(2);
    if (outputs.length > 1) throw new Error('it was saved');
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(2), 'result 3');
    await prompt(lab.cell(2), '[3]:');
    check(await unmarked(2), 3, 8000);
  });
  await step('a request that a supervisor has forgotten is shown as far as it is held', async () => {
    // As one that has taken a kernel over answers.
    const forget = page =>
      page.route('**/nb/kernels/*/journal?*', async route => {
        const response = await route.fetch();
        const journal = { ...(await response.json()), request: { state: 'unknown', whole: false } };
        await route.fulfill({ response, json: journal });
      });
    await lab.output(await lab.submit(`${HELD.replace(GATE, 'gate4')}\n'result 4'`), 'line 40');
    await marked(3);
    lab = await lab.close();
    await forget(lab.page);
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(3), 'line 40');
    await prompt(lab.cell(3), '[*]:');
    await open('gate4');
    await lab.output(lab.cell(3), 'result 4');
    await prompt(lab.cell(3), '[4]:');
    await unmarked(3);
    await lab.output(await lab.submit(`${HELD.replace(GATE, 'gate5')}\n'result 5'`), 'line 40');
    await marked(4);
    lab = await lab.close();
    await open('gate5');
    await idle();
    await forget(lab.page);
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(4), 'result 5');
    await prompt(lab.cell(4), '[5]:');
    await unmarked(4);
    await lab.page.unrouteAll({ behavior: 'wait' });
  });
  await step('a question is asked again', async () => {
    await lab.submit('print("hello", input("name? "))');
    await lab.cell(5).locator('input.jp-Stdin-input').waitFor();
    await marked(5);
    lab = await lab.close();
    await lab.reopen(NOTEBOOK);
    const box = lab.cell(5).locator('input.jp-Stdin-input');
    await box.fill('Ada');
    await box.press('Enter');
    await lab.output(lab.cell(5), 'hello Ada');
    await prompt(lab.cell(5), '[6]:');
  });
  await step('a restart behind a closed page ends the cell', async () => {
    await lab.output(await lab.submit('print("begun", flush=True)\nimport time; time.sleep(600)'), 'begun');
    const { id } = (await get('kernels'))[0];
    await marked(6);
    lab = await lab.close();
    const { status } = await fetch(`${origin}/api/kernels/${id}/restart`, { method: 'POST', headers });
    equal(status, 200, 'the restart');
    await lab.reopen(NOTEBOOK);
    await lab.output(lab.cell(6), 'begun');
    // The kernel is interrupted first, and may say so.
    await lab.output(lab.cell(6), /KeyboardInterrupt|KernelRestarted/);
    await saved(6, cell => !cell.metadata.nb && cell.outputs.at(-1).output_type === 'error');
  });
  await step('the next cell runs as any', async () => {
    await lab.output(await lab.submit('print("on")'), 'on');
    await lab.state('Idle');
  });
  equal(await lab.prompts(), 0, 'prompts on the page');
  await lab.shoot('closed-end');
});

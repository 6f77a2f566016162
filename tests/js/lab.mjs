// JupyterLab of `nb up` in headless Chromium: what a person does with a notebook.
// usage: node lab.mjs LAB_URL SCREENSHOT_FOLDER

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { equal, step } from './check.mjs';

const [url, shots] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), 'nb-chromium-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.NB_CHROMIUM ?? '/usr/bin/chromium', headless: true,
  viewport: { width: 1280, height: 850 },
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
});
const page = browser.pages()[0];
page.setDefaultTimeout(60_000);
const notebook = () => page.locator('.jp-NotebookPanel').last();
const cells = () => notebook().locator('.jp-CodeCell');
const state = name => page.locator('#jp-bottom-panel').filter({ hasText: `| ${name}` }).waitFor();

// Types into the last cell and runs it; a fresh cell follows.
async function submit(code) {
  const cell = cells().last();
  await cell.locator('.cm-content').click();
  await page.keyboard.insertText(code);
  const count = await cells().count();
  await page.keyboard.press('Shift+Enter');
  await cells().nth(count).waitFor();
  return cells().nth(count - 1);
}
const output = (cell, text) => cell.locator('.jp-OutputArea').filter({ hasText: text }).first().waitFor();
const press = command => notebook().locator(`[data-command="${command}"]`).first().click();

let failed;
try {
  await step('a notebook opens', async () => {
    await page.goto(url, { waitUntil: 'domcontentloaded' });
    await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
    await state('Idle');
  });
  await step('a cell runs', async () => output(await submit('print("six times", 6*7)'), 'six times 42'));
  await step('a plot is shown', async () => {
    const cell = await submit('import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.show()');
    await cell.locator('.jp-OutputArea img').waitFor();
  });
  await step('an error is shown', async () => output(await submit('1/0'), 'ZeroDivisionError'));
  await step('a question is answered', async () => {
    const cell = await submit('print("hello", input("name? "))');
    const box = cell.locator('input.jp-Stdin-input');
    await box.fill('Ada');
    await box.press('Enter');
    await output(cell, 'hello Ada');
  });
  await step('our magic shows a table', async () => output(await submit('%nb status'), 'clients'));
  await page.screenshot({ path: join(shots, 'cells.png') });
  await step('an interrupt ends a cell', async () => {
    const cell = await submit('import time\nprint("begun", flush=True)\ntime.sleep(600)');
    await output(cell, 'begun');
    await press('notebook:interrupt-kernel');
    await output(cell, 'KeyboardInterrupt');
  });
  await step('after a reload a running cell is busy, then later cells run', async () => {
    const cell = await submit('kept = 1\nprint("begun again", flush=True)\ntime.sleep(6)');
    await output(cell, 'begun again');
    await page.keyboard.press('Control+s');
    await page.reload({ waitUntil: 'domcontentloaded' });
    await state('Busy');
    await state('Idle');
    await output(await submit('print("still", "here")'), 'still here');
  });
  await step('a restart gives a fresh kernel', async () => {
    await press('notebook:restart-kernel');
    await page.locator('.jp-Dialog .jp-mod-accept').click();
    await state('Idle');
    await output(await submit('kept'), 'NameError');
  });
  equal(await page.locator('.jp-toast-button, .Toastify__toast').count(), 0, 'prompts on the page');
  await page.screenshot({ path: join(shots, 'end.png') });
} catch (error) {
  failed = error;
  await page.screenshot({ path: join(shots, 'failed.png') });
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
if (failed) console.error(failed.message);
process.exit(failed ? 1 : 0);

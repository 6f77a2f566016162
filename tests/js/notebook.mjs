// JupyterLab's page in headless Chromium: a notebook, its cells, the kernel's state, screenshots.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { chromium } from 'playwright-core';
import { within } from './check.mjs';

// Opens a browser for `suite`, which gets what can be done with the page; ends the program with its outcome.
export async function withLab(url, shots, suite) {
  mkdirSync(shots, { recursive: true });
  const failure = `failed-${basename(process.argv[1], '.mjs')}`;
  rmSync(join(shots, `${failure}.png`), { force: true });
  const profile = mkdtempSync(join(tmpdir(), 'nb-chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.NB_CHROMIUM ?? '/usr/bin/chromium', headless: true,
    viewport: { width: 1280, height: 850 },
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  const shoot = name => browser.pages().at(-1).screenshot({ path: join(shots, `${name}.png`) });
  const using = page => {
    page.setDefaultTimeout(60_000);
    return { ...lab(page, url), page, shoot, close: () => close(page) };
  };
  // Closes a page, unsaved as it is; gives a new one.
  const close = async page => {
    const next = await browser.newPage();
    await page.close();
    return using(next);
  };
  let failed;
  try {
    await suite(using(browser.pages()[0]));
  } catch (error) {
    failed = error;
    // At once: a browser that hangs has no picture to give either.
    console.error(failed.message);
    await within(shoot(failure), 'a picture of the page').catch(error => console.error(error.message));
  }
  try {
    await within(browser.close(), 'the end of the browser');
  } catch (error) {
    failed ??= error;
    console.error(error.message);
  }
  rmSync(profile, { recursive: true, force: true });
  // Kills the browser that has not ended.
  process.exit(failed ? 1 : 0);
}

function lab(page, url) {
  const notebook = () => page.locator('.jp-NotebookPanel').last();
  const cells = () => notebook().locator('.jp-CodeCell');
  // Playwright gives a look at what is there no deadline.
  const count = () => within(cells().count(), 'a count of cells');
  const state = name => page.locator('#jp-bottom-panel').filter({ hasText: `| ${name}` }).waitFor();
  const away = page.locator('.jp-Dialog', { hasText: 'Server Connection Error' });
  return {
    state,
    // By one, whenever it comes, Lab tells of its own accord that its server is away; it says no more than that.
    closeAwayDialogs: () => page.addLocatorHandler(away, () => away.locator('.jp-Dialog-button').click()),
    async open() {
      await page.goto(url, { waitUntil: 'domcontentloaded' });
      await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
      await state('Idle');
    },
    // A notebook that is there, in a page that is new.
    async reopen(name) {
      const { origin, search } = new URL(url);
      await page.goto(`${origin}/lab/tree/${name}${search}`, { waitUntil: 'domcontentloaded' });
      await cells().first().waitFor({ state: 'attached' });
    },
    // Types into the last cell and runs it; a fresh cell follows.
    async submit(code) {
      const cell = cells().last();
      await cell.locator('.cm-content').click();
      await page.keyboard.insertText(code);
      const before = await count();
      await page.keyboard.press('Shift+Enter');
      await cells().nth(before).waitFor();
      return cells().nth(before - 1);
    },
    output: (cell, text) => cell.locator('.jp-OutputArea').filter({ hasText: text }).first().waitFor(),
    // The text that a cell shows.
    shown: async cell => {
      const texts = cell.locator('.jp-OutputArea pre').allTextContents();
      return (await within(texts, 'a look at what is shown')).join('');
    },
    press: command => notebook().locator(`[data-command="${command}"]`).first().click(),
    // Once for a notebook: its first save asks for a name.
    async saveAndReload() {
      const unsaved = page.locator('#jp-main-dock-panel .lm-TabBar-tab.jp-mod-dirty');
      await page.keyboard.press('Control+s');
      await page.locator('.jp-Dialog .jp-mod-accept').click();
      await unsaved.waitFor({ state: 'detached' });
      const before = await count();
      await page.reload({ waitUntil: 'domcontentloaded' });
      // Lab shows the first cells while it still makes the others.
      await cells().nth(before - 1).waitFor({ state: 'attached' });
    },
    cell: n => cells().nth(n),
    prompts: () => within(page.locator('.jp-toast-button, .Toastify__toast').count(), 'a count of prompts'),
  };
}

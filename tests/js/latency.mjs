// From the keys to the text of the output on JupyterLab's page, in headless Chromium: measured, not judged.
// Besides the whole, the part that is not the page's: from the request on its WebSocket to the text there, and to the
// idle after it. The page reads that only when it is not at work on the new cell that Shift-Enter makes; Ctrl-Enter,
// which runs the same cell again, makes none.
// usage: node latency.mjs LAB_URL SCREENSHOT_FOLDER WHAT

import { step } from './check.mjs';
import { withLab } from './notebook.mjs';

const [url, shots, what] = process.argv.slice(2);
const [WARM_UP, CELLS] = [5, 40];

// In the page, before anything else: when which word passed over a WebSocket, either way.
const watch = () => {
  const words = ['execute_request', '"stream"', '"idle"'];
  const text = data => (typeof data === 'string' ? data : new TextDecoder('latin1').decode(data)).replaceAll(' ', '');
  const note = data => {
    for (const word of words.filter(word => text(data).includes(word))) (window.passed ??= {})[word] ??= performance.now();
  };
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    if (text(data).includes(words[0])) window.passed = {};
    note(data);
    if (!this.watched) this.addEventListener('message', ({ data }) => note(data));
    this.watched = true;
    return send.call(this, data);
  };
};

// In the page: how long until `text` stands in an output after the keys are pressed.
const arm = text => {
  window.taken = new Promise(resolve => {
    let since;
    document.addEventListener('keydown', ({ key }) => { if (key === 'Enter') since ??= performance.now(); }, true);
    const there = () => [...document.querySelectorAll('.jp-OutputArea pre')].some(pre => pre.textContent === text);
    const observer = new MutationObserver(() => {
      if (since === undefined || !there()) return;
      observer.disconnect();
      resolve(performance.now() - since);
    });
    observer.observe(document.body, { subtree: true, childList: true, characterData: true });
  });
};

await withLab(url, shots, async ({ page, open, submit, cell, state }) => {
  await page.addInitScript(watch);
  await step('a notebook opens', open);
  const measure = async (how, run) => {
    const taken = { whole: [], text: [], idle: [] };
    await step(`${WARM_UP} cells, then ${CELLS} that are measured, ${how}`, async () => {
      for (let n = 0; n < WARM_UP + CELLS; n++) {
        await page.evaluate(arm, `${how} ${n}\n`);
        await run(n);
        taken.whole.push(await page.evaluate(() => window.taken));
        await page.waitForFunction(() => window.passed['"idle"']);
        const passed = await page.evaluate(() => window.passed);
        taken.text.push(passed['"stream"'] - passed.execute_request);
        taken.idle.push(passed['"idle"'] - passed.execute_request);
        await state('Idle');
      }
    });
    const shown = name => {
      const sorted = taken[name].slice(WARM_UP).sort((a, b) => a - b);
      return [0.1, 0.5, 0.9].map(part => sorted[Math.floor(part * (sorted.length - 1))].toFixed(0)).join(' / ');
    };
    console.log(`${what}, ${how}, ms p10 / p50 / p90: keys to text ${shown('whole')}; ` +
      `in the page's WebSocket: request to text ${shown('text')}, to idle ${shown('idle')}`);
  };
  // The same cell again makes the page do little: it does not build another.
  await submit('n = globals().get("n", -2) + 1\nprint("again", n)');
  await cell(0).locator('.cm-content').click();
  await measure('again', () => page.keyboard.press('Control+Enter'));
  await measure('cell', n => submit(`print("cell", ${n})`));
});

// JupyterLab of `nb up` in headless Chromium: what a person does with a notebook.
// usage: node lab.mjs LAB_URL SCREENSHOT_FOLDER

import { equal, step } from './check.mjs';
import { withLab } from './notebook.mjs';

const [url, shots] = process.argv.slice(2);

// An image of 3 pixels, and one of 5 when a file has come.
const WIDGET = `import io, ipywidgets as widgets, PIL.Image
def png(width):
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, 2), "red").save(file, "png")
    return file.getvalue()
image, upload, heard = widgets.Image(value=png(3)), widgets.FileUpload(), widgets.Output()
def came(change):
    with heard:
        print("the kernel has", bytes(change["new"][0]["content"]).hex())
    image.value = png(5)
upload.observe(came, "value")
widgets.VBox([image, upload, heard])`;

await withLab(url, shots, async ({ page, open, submit, output, press, state, saveAndReload, prompts, shoot }) => {
  await step('a notebook opens', open);
  await step('a cell runs', async () => output(await submit('print("six times", 6*7)'), 'six times 42'));
  await step('a plot is shown', async () => {
    const cell = await submit('import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.show()');
    await cell.locator('.jp-OutputArea img').waitFor();
    await shoot('plot');
  });
  await step('widgets show and say bytes that are no text', async () => {
    const cell = await submit(WIDGET);
    const image = cell.locator('.jp-OutputArea img');
    await image.waitFor();
    await page.waitForFunction(image => image.naturalWidth === 3, await image.elementHandle());
    // What the page knows of the file goes to the kernel as bytes.
    const bytes = Buffer.from([0xff, 0, 0xfe, 0x80]);
    const chooser = page.waitForEvent('filechooser');
    await cell.locator('button', { hasText: 'Upload' }).click();
    await (await chooser).setFiles({ name: 'a.bin', mimeType: 'application/octet-stream', buffer: bytes });
    await output(cell, 'the kernel has ff00fe80');
    await page.waitForFunction(image => image.naturalWidth === 5, await image.elementHandle());
    await shoot('widgets');
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
  await shoot('cells');
  await step('a package is there at once', async () => {
    const cell = await submit('%pip install six==1.16.0\nimport six\nprint("six is", six.__version__)');
    await output(cell, 'six is 1.16.0');
  });
  await step('an install that fails says why', async () => {
    await output(await submit('%pip install no-such-package-of-anybody'), 'No versions fit together');
  });
  await shoot('packages');
  await step('a cell runs in another environment', async () => {
    await submit('import pandas as pd\ndf = pd.DataFrame({"town": ["Oslo", "Rome"], "degrees": [-3, 12]})');
    const cell = await submit('%%venv old --with six==1.15.0 --get df\nimport six, sys\nprint("six here is", six.__version__)\ndf');
    await output(cell, 'six here is 1.15.0');
    await output(cell, 'Oslo');
    // The count is the notebook's, and what is there stays there.
    await output(await submit('import six\nprint("and here", six.__version__)'), 'and here 1.16.0');
    await output(await submit('%%venv old\n1 / 0'), 'ZeroDivisionError');
    await cell.scrollIntoViewIfNeeded();
    await shoot('venv');
  });
  await step('an interrupt ends a cell', async () => {
    const cell = await submit('import time\nprint("begun", flush=True)\ntime.sleep(600)');
    await output(cell, 'begun');
    await press('notebook:interrupt-kernel');
    await output(cell, 'KeyboardInterrupt');
  });
  await step('after a reload a running cell is busy, then later cells run', async () => {
    const cell = await submit('kept = 1\nprint("begun again", flush=True)\ntime.sleep(600)');
    await output(cell, 'begun again');
    await saveAndReload();
    await state('Busy');
    await press('notebook:interrupt-kernel');
    await state('Idle');
    await output(await submit('print("still", "here")'), 'still here');
  });
  await step('a restart gives a fresh kernel', async () => {
    await press('notebook:restart-kernel');
    await page.locator('.jp-Dialog .jp-mod-accept').click();
    await state('Idle');
    await output(await submit('kept'), 'NameError');
  });
  equal(await prompts(), 0, 'prompts on the page');
  await shoot('end');
});

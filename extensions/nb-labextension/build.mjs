// Makes the plugin that the companion carries, in ../nb-jupyter/nb_jupyter/labextension.
// usage: node build.mjs [--check], which writes nothing and fails when what is there is not what it would make.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, '../nb-jupyter/nb_jupyter/labextension');
const read = name => readFileSync(join(here, name), 'utf8');

// One line per file, as sha256sum has them; a test of nb's checks it without Node.
function sources() {
  const own = ['build.mjs', 'container.js', 'package-lock.json', 'package.json', 'tsconfig.json'];
  const files = [...own, ...readdirSync(join(here, 'src')).map(name => `src/${name}`)].sort();
  return files.map(name => `${createHash('sha256').update(read(name)).digest('hex')}  ${name}\n`).join('');
}

async function entry() {
  const built = await build({
    absWorkingDir: here,
    entryPoints: ['src/index.ts'],
    bundle: true,
    write: false,
    metafile: true,
    format: 'cjs',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    external: ['@jupyterlab/*', '@lumino/*']
  });
  const imports = Object.values(built.metafile.outputs).flatMap(output => output.imports);
  const names = [...new Set(imports.map(({ path }) => path))].sort();
  const bundle = `(function (require, module) {\n${built.outputFiles[0].text}})`;
  // As functions: a replacement has patterns of its own.
  return read('container.js')
    .replace('NAMES)', () => `${JSON.stringify(names)})`)
    .replace('BUNDLE(', () => `${bundle}(`);
}

function manifest() {
  const { name, version, description } = JSON.parse(read('package.json'));
  const load = 'static/remoteEntry.js';
  const dependencies = { '@jupyterlab/notebook': '^4.0.0' };
  const jupyterlab = { extension: true, _build: { load, extension: './extension' } };
  return `${JSON.stringify({ name, version, description, dependencies, jupyterlab }, null, 2)}\n`;
}

const files = {
  'package.json': manifest(),
  'sources.sha256': sources(),
  'static/remoteEntry.js': await entry()
};
if (process.argv[2] === '--check') {
  const there = name => {
    try {
      return readFileSync(join(target, name), 'utf8');
    } catch {
      return undefined;
    }
  };
  const stale = Object.keys(files).filter(name => there(name) !== files[name]);
  if (stale.length > 0) {
    console.error(`not made from these sources: ${stale.join(', ')}; run cargo xtask labextension`);
    process.exit(1);
  }
} else {
  mkdirSync(join(target, 'static'), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(target, name), text);
}

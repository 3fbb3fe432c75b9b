// The packed package in a fresh project for each bundler, opened in a browser.

import assert from 'node:assert/strict';
import { cp, readFile } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { launchChromium } from '../support.mjs';
import { LABEL, at, classify, project, serve, tool, visit } from './support.mjs';

const SETTING = { timeout: 180_000 };

/** Copies what esbuild and Rollup do not bundle to the bundle's folder. */
async function beside(folder) {
  for (const name of ['worker.js', 'wasm', 'models']) {
    await cp(join(folder, 'node_modules/googlenet-web/dist', name), join(folder, 'dist', name), { recursive: true });
  }
  await cp(join(folder, 'index.html'), join(folder, 'dist/index.html'));
}

const entry = await readFile(at('examples/webpack/src/index.js'), 'utf8');
const html = await readFile(at('examples/webpack/index.html'), 'utf8');
const plain = { files: { 'index.js': entry, 'index.html': html } };

/** How each bundler makes a page out of a project. Each function returns the folder to serve. */
const BUNDLERS = {
  'no bundler': { options: { example: 'html' }, build: async () => '.' },
  Vite: {
    options: { example: 'vite-react', packages: ['react', 'react-dom', 'scheduler'] },
    build: async (folder) => {
      await tool(folder, 'vite', 'build');
      return 'dist';
    },
  },
  webpack: {
    options: { example: 'webpack' },
    build: async (folder) => {
      await tool(folder, 'webpack');
      await cp(join(folder, 'index.html'), join(folder, 'dist/index.html'));
      return 'dist';
    },
  },
  esbuild: {
    options: plain,
    build: async (folder) => {
      await tool(folder, 'esbuild', 'index.js', '--bundle', '--format=esm', '--outfile=dist/bundle.js');
      await beside(folder);
      return 'dist';
    },
  },
  Rollup: {
    options: {
      files: {
        ...plain.files,
        // Rollup does not resolve packages by itself.
        'rollup.config.js': `
          const resolve = { resolveId: (id) => id === 'googlenet-web' ? process.cwd() + '/node_modules/googlenet-web/dist/index.js' : null };
          export default { input: 'index.js', plugins: [resolve], output: { file: 'dist/bundle.js', format: 'es', inlineDynamicImports: true } };`,
      },
    },
    build: async (folder) => {
      await tool(folder, 'rollup', '--config');
      await beside(folder);
      return 'dist';
    },
  },
};

describe('the packed package in a fresh project', { concurrency: false }, () => {
  let browser;
  const stops = [];

  before(async () => {
    browser = await launchChromium();
  });
  after(async () => {
    await browser?.close();
    for (const stop of stops) await stop();
  });

  const fresh = async (options) => {
    const { folder, remove } = await project(options);
    stops.push(remove);
    return folder;
  };

  for (const [name, { options, build }] of Object.entries(BUNDLERS)) {
    test(`${name}: classifies a photograph`, SETTING, async (t) => {
      const folder = await fresh(options);
      const site = await serve(join(folder, await build(folder)));
      stops.push(site.stop);
      const { page, faults } = await visit(browser, site.url);
      const answer = await classify(page);
      assert.match(answer, new RegExp(`^${LABEL},`));
      assert.deepEqual(faults(), []);
      t.diagnostic(answer);
      await page.close();
    });
  }

  test('Vite in dev mode: classifies a photograph', SETTING, async (t) => {
    const folder = await fresh(BUNDLERS.Vite.options);
    const vite = spawn(at('node_modules/.bin/vite'), ['--port', '0'], {
      cwd: folder,
      env: { ...process.env, NODE_ENV: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    stops.push(() => vite.kill());
    let url;
    for await (const line of createInterface(vite.stdout)) {
      // Escape codes of colours are removed.
      url = /http:\/\/localhost:\d+\//.exec(line.replace(/\u001b\[\d+m/g, ''))?.[0];
      if (url) break;
    }
    const { page, faults } = await visit(browser, url);
    const answer = await classify(page);
    assert.match(answer, new RegExp(`^${LABEL},`));
    assert.deepEqual(faults(), []);
    t.diagnostic(answer);
    await page.close();
  });
});

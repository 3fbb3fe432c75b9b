// The package on different hosts: with a strict policy, with and without isolation, under a path, on another site.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launchChromium, launchFirefox } from '../support.mjs';
import { ISOLATED, LABEL, bare, project, ready, serve, visit } from './support.mjs';

const SETTING = { timeout: 120_000 };
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";

/** Loads the network and classifies the photograph; runs in the page. */
const look = async (options) => {
  const net = await window.GoogLeNet.load({ heads: false, ...options });
  const { top } = await net.classify('cat.jpg');
  const { info } = net;
  net.free();
  return { label: top[0].label, probability: top[0].probability, threads: info.threads, backend: info.backend };
};

describe('hosts', { concurrency: false }, () => {
  let browser, folder, remove;
  const stops = [];

  before(async () => {
    browser = await launchChromium();
    ({ folder, remove } = await bare());
  });
  after(async () => {
    await browser?.close();
    stops.forEach((stop) => stop());
    await remove?.();
  });

  const host = async (options, from = folder) => {
    const site = await serve(from, options);
    stops.push(site.stop);
    return site;
  };
  const open = async (url) => {
    const visited = await visit(browser, url);
    await ready(visited.page);
    return visited;
  };

  test('a page that is not isolated has one thread', SETTING, async () => {
    const { page, faults } = await open((await host()).url);
    assert.equal(await page.evaluate(() => crossOriginIsolated), false);
    const { label, threads } = await page.evaluate(look);
    assert.deepEqual([label, threads], [LABEL, 1]);
    assert.deepEqual(faults(), []);
  });

  test('an isolated page has threads, and the same answer', SETTING, async () => {
    const { page, faults } = await open((await host({ headers: ISOLATED })).url);
    const [two, one] = [await page.evaluate(look, { threads: 2 }), await page.evaluate(look, { threads: 1 })];
    assert.deepEqual([two.label, two.threads, one.threads], [LABEL, 2, 1]);
    assert.equal(two.probability, one.probability);
    assert.deepEqual(faults(), []);
  });

  test('a batch that does not fit into shared memory gives an error, and the network continues', SETTING, async () => {
    const { page, faults } = await open((await host({ headers: ISOLATED })).url);
    const ask = async () => {
      const net = await window.GoogLeNet.load({ heads: false, threads: 2 });
      const tiny = { data: new Uint8ClampedArray(64), width: 4, height: 4 };
      const many = await net.classifyMany(Array(100).fill(tiny), { batch: 100 }).then(() => 'none', ({ code, message }) => `${code}: ${message}`);
      const { top } = await net.classify('cat.jpg');
      return { many, threads: net.info.threads, label: top[0].label };
    };
    const { many, threads, label } = await page.evaluate(ask);
    assert.match(many, /^memory: this needs \d+ MB of memory/);
    assert.deepEqual([threads, label], [2, LABEL]);
    assert.deepEqual(faults(), []);
  });

  for (const [what, headers] of [['', {}], [', with threads', ISOLATED]]) {
    test(`a strict content policy is kept${what}`, SETTING, async () => {
      const site = await host({ headers: { ...headers, 'content-security-policy': POLICY } });
      const { page, faults } = await open(site.url);
      const { label, threads } = await page.evaluate(look, { threads: 2 });
      assert.deepEqual([label, threads], [LABEL, what ? 2 : 1]);
      assert.deepEqual(faults(), []);
    });
  }

  test('without a worker the engine runs on the calling thread', SETTING, async () => {
    const { page, faults } = await open((await host({ headers: ISOLATED })).url);
    const before = page.workers().length;
    const { label, threads } = await page.evaluate(look, { worker: false });
    assert.deepEqual([label, threads, page.workers().length], [LABEL, 1, before]);
    assert.deepEqual(faults(), []);
  });

  test('WebGPU gives the same answer', SETTING, async () => {
    const { page, faults } = await open((await host()).url);
    const [gpu, cpu] = [await page.evaluate(look, { backend: 'webgpu' }), await page.evaluate(look, { backend: 'wasm' })];
    assert.deepEqual([gpu.backend, cpu.backend, gpu.label], ['webgpu', 'wasm', LABEL]);
    assert.ok(Math.abs(gpu.probability - cpu.probability) < 1e-3);
    assert.deepEqual(faults(), []);
  });

  test('the site may lie under a path', SETTING, async () => {
    const { page, faults } = await open((await host({ under: '/a/b/' })).url);
    assert.equal((await page.evaluate(look)).label, LABEL);
    assert.deepEqual(faults(), []);
  });

  test('the files may lie in other folders, which options name', SETTING, async () => {
    const site = await host();
    const asked = [];
    const { page } = await open(site.url);
    page.context().on('request', (request) => asked.push(request.url()));
    const dist = join('node_modules', 'googlenet-web', 'dist');
    const answer = await page.evaluate(look, { wasmUrl: `${dist}/wasm`, modelUrl: `${dist}/models/`, workerUrl: `${dist}/worker.js` });
    assert.equal(answer.label, LABEL);
    const wrong = await page.evaluate((load) => window.GoogLeNet.load(load).catch(({ code, detail, message }) => ({ code, detail, message })), { wasmUrl: 'nowhere' });
    assert.equal(wrong.code, 'download');
    assert.equal(wrong.detail.startsWith(`${site.url}nowhere/`), true);
    assert.match(wrong.message, /404.*wasmUrl/);
  });

  test('the package may come from another site, as from a CDN', SETTING, async () => {
    const cdn = await host({ headers: { 'access-control-allow-origin': '*' } });
    const { folder: own, remove: removeOwn } = await project({
      files: {
        'index.html': '<!doctype html><meta charset="utf-8"><title>Test</title><script type="module" src="page.js"></script>',
        'page.js': `import * as api from '${cdn.url}node_modules/googlenet-web/dist/index.js';\nObject.assign(window, api);\n`,
      },
    });
    stops.push(removeOwn);
    const { page, faults } = await open((await host({}, own)).url);
    const answer = await page.evaluate(look, {}).catch(() => undefined);
    // The photograph is on another site, and is read across sites.
    assert.equal(answer, undefined);
    const label = await page.evaluate(async (photo) => {
      const net = await window.GoogLeNet.load({ heads: false });
      return (await net.classify(photo)).top[0].label;
    }, `${cdn.url}cat.jpg`);
    assert.equal(label, LABEL);
    assert.deepEqual(faults().filter((fault) => !fault.includes('cat.jpg')), []);
  });
});

test('Firefox names the photograph too', SETTING, async () => {
  const { folder, remove } = await bare();
  const site = await serve(folder, { headers: ISOLATED });
  const browser = await launchFirefox();
  try {
    const page = await browser.newPage();
    await page.goto(site.url);
    await page.waitForFunction(() => 'GoogLeNet' in window);
    const { label, threads } = await page.evaluate(look, { backend: 'wasm', threads: 2 });
    assert.deepEqual([label, threads], [LABEL, 2]);
  } finally {
    await browser.close();
    site.stop();
    await remove();
  }
});

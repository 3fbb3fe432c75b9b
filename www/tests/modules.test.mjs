// A page fetches the module of the engine that it uses, and the module of the other one only when it needs that.

import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { answered, newPage, serve, settled, setting, visit } from './support.mjs';

/** Makes every read from the GPU fail, on any device. Runs in the engine's worker. */
const breakGpu = () => {
  GPUBuffer.prototype.mapAsync = () => Promise.reject(new DOMException('the GPU is gone', 'OperationError'));
};

describe('the modules that a page fetches', { concurrency: false }, () => {
  const here = setting();
  let page;
  afterEach(() => page?.context().close());

  /** Opens the page at an address; returns the names of the modules as they are requested. */
  const watched = async (url, options = { serviceWorkers: 'block' }) => {
    page = await newPage(here.browser, options);
    const asked = [];
    page.on('request', (request) => {
      const name = /googlenet_\w+?(?=-|\.|_bg)/.exec(request.url())?.[0];
      if (name && !asked.includes(name)) asked.push(name);
    });
    await visit(page, url);
    return asked;
  };
  const engine = () => page.workers().find((worker) => /worker/.test(worker.url()));
  const backend = () => page.getAttribute('#facts', 'data-backend');

  test('on the CPU the GPU module is not fetched, and on the GPU no CPU module', { timeout: 240_000 }, async () => {
    for (const [on, pattern] of [['cpu', /^googlenet_cpu/], ['gpu', /^googlenet_gpu$/], ['auto', /^googlenet_cpu/]]) {
      const asked = await watched(`${here.server.url}/?backend=${on}#picture=samples/cat.jpg`);
      await answered(page, 'cat', 120_000);
      assert.ok(asked.length > 0, 'the network log has the module');
      assert.deepEqual(asked.filter((name) => !pattern.test(name)), [], `${on} asked for ${asked}`);
      await page.context().close();
    }
  });

  test('after a GPU has failed for good, the picture in progress is answered on the CPU, whose module is fetched then', { timeout: 240_000 }, async () => {
    const asked = await watched(`${here.server.url}/?backend=gpu`);
    assert.equal(await backend(), 'gpu');
    assert.deepEqual(asked, ['googlenet_gpu']);
    await engine().evaluate(breakGpu);
    await page.click('[data-sample="samples/cat.jpg"]');
    await answered(page, 'cat', 180_000);
    await page.waitForSelector('#facts[data-backend=cpu]');
    assert.match(await page.textContent('#alert-text'), /The GPU was lost.*The network now runs on the CPU/);
    assert.ok(asked.some((name) => name.startsWith('googlenet_cpu')), String(asked));
    // The network continues there, also with work that builds on the last picture.
    await settled(page);
    await page.click('[data-sample="samples/dog.jpg"]');
    await answered(page, 'dog');
    // Messages of Puppeteer and of the browser about the GPU are no faults of the page.
    assert.deepEqual(page.faults, []);
  });

  test('the same works offline, after visits on both engines', { timeout: 400_000 }, async () => {
    const own = await serve();
    page = await newPage(here.browser);
    const kept = () => page.evaluate(async () => {
      const all = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
      return all.flat().map(({ url }) => url);
    });
    for (const [on, module] of [['cpu', 'googlenet_cpu'], ['gpu', 'googlenet_gpu']]) {
      await visit(page, `${own.url}/?backend=${on}`);
      while (!(await kept()).some((url) => url.endsWith('.wasm') && url.includes(module))) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    while (!(await kept()).some((url) => url.endsWith('models/index.json'))) await new Promise((resolve) => setTimeout(resolve, 100));
    own.stop();
    await assert.rejects(fetch(own.url), 'the server is gone');
    await visit(page, `${own.url}/?backend=gpu`);
    assert.equal(await backend(), 'gpu');
    await engine().evaluate(breakGpu);
    await page.click('[data-sample="samples/cat.jpg"]');
    await answered(page, 'cat', 180_000);
    await page.waitForSelector('#facts[data-backend=cpu]');
  });

  test('offline, and without the CPU module, the page shows an error and continues once it is online', { timeout: 240_000 }, async () => {
    await watched(`${here.server.url}/?backend=gpu`);
    await engine().evaluate(breakGpu);
    await page.route(/googlenet_cpu\w*_bg.*\.wasm/, (route) => route.abort());
    await page.click('[data-sample="samples/cat.jpg"]');
    await page.waitForSelector('[role=alert]:not([hidden])', { timeout: 180_000 });
    assert.match(await page.textContent('#alert-text'), /engine could not be loaded/);
    await page.unroute(/googlenet_cpu\w*_bg.*\.wasm/);
    await page.click('[data-sample="samples/dog.jpg"]');
    await answered(page, 'dog', 180_000);
  });
});

// Load, classify and free, repeated: all memory is returned.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launchChromium, launchFirefox } from '../support.mjs';
import { LABEL, bare, ready, serve, visit } from './support.mjs';

const CYCLES = 200;
/**
 * In workers, where a cycle takes four times as long. The heap may grow half as much, so that the same leak is found.
 */
const WORKER_CYCLES = 100;
/** On a GPU every device and byte is counted: one that stays would be seen after the first cycle. */
const GPU_CYCLES = 40;
const MIB = 1 << 20;

/** Returns the size of the page's own JavaScript heap after a collection, in bytes. */
const heap = async (devtools) => {
  await devtools.send('HeapProfiler.collectGarbage');
  await devtools.send('HeapProfiler.collectGarbage');
  return (await devtools.send('Runtime.getHeapUsage')).usedSize;
};

/** Returns the model for pictures of a quarter of the size, since software adapters take seconds for the whole one. */
const smaller = async () => {
  const file = new Uint8Array(await (await fetch('node_modules/googlenet-web/dist/models/cifar10-noheads.safetensors')).arrayBuffer());
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  const preprocessing = JSON.parse(header.__metadata__.preprocessing);
  header.__metadata__.preprocessing = JSON.stringify({ ...preprocessing, size: 56 });
  const text = JSON.stringify(header);
  const json = new TextEncoder().encode(text.padEnd(text.length + (8 - (text.length % 8))));
  const start = new Uint8Array(8);
  new DataView(start.buffer).setBigUint64(0, BigInt(json.length), true);
  window.model = new Blob([start, json, file.subarray(8 + length)]);
};

/** Makes the page keep references to the memory of each of the engine's modules. */
const hold = () => {
  window.memories = [];
  const instantiate = WebAssembly.instantiate;
  WebAssembly.instantiate = async (...args) => {
    const result = await instantiate(...args);
    const { memory } = (result.instance ?? result).exports;
    if (memory) memories.push(memory);
    return result;
  };
};

/** Returns the bytes of the memory of all modules. */
const held = () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);

/** Runs this many cycles; returns the measurements. */
const cycle = async ({ count, options }) => {
  window.model ??= await (await fetch('node_modules/googlenet-web/dist/models/cifar10-noheads.safetensors')).blob();
  window.picture ??= await (await fetch('cat.jpg')).blob();
  const labels = new Set();
  for (let i = 0; i < count; i++) {
    const net = await GoogLeNet.load({ model: window.model, ...options });
    labels.add((await net.classify(picture)).top[0].label);
    net.free();
  }
  return [...labels];
};

describe('cycles of load, classify, free', { concurrency: false }, () => {
  let browser, remove, site;

  before(async () => {
    const project = await bare();
    remove = project.remove;
    site = await serve(project.folder);
    browser = await launchChromium();
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await remove?.();
  });

  test(`${CYCLES} on the calling thread, where memory can be seen`, { timeout: 600_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    const devtools = await page.context().newCDPSession(page);
    await page.evaluate(hold);
    const options = { worker: false, backend: 'wasm' };
    const wasm = () => page.evaluate(held);
    assert.deepEqual(await page.evaluate(cycle, { count: 10, options }), [LABEL]);
    const before = { heap: await heap(devtools), wasm: await wasm() };
    assert.deepEqual(await page.evaluate(cycle, { count: CYCLES - 10, options }), [LABEL]);
    const after = { heap: await heap(devtools), wasm: await wasm() };
    const mib = ({ heap, wasm }) => `heap ${(heap / MIB).toFixed(2)} MiB, wasm ${(wasm / MIB).toFixed(2)} MiB`;
    t.diagnostic(`after 10 cycles: ${mib(before)}; after ${CYCLES}: ${mib(after)}`);
    assert.equal(after.wasm, before.wasm);
    assert.ok(after.heap - before.heap < MIB, `the heap grew by ${after.heap - before.heap} bytes`);
    await page.close();
  });

  test('100 pictures in a row take no more memory than the first', { timeout: 120_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    await page.evaluate(hold);
    const run = async (count) => {
      window.net ??= await GoogLeNet.load({ worker: false, backend: 'wasm' });
      window.picture ??= await (await fetch('cat.jpg')).blob();
      for (let i = 0; i < count; i++) await net.classify(picture);
    };
    await page.evaluate(run, 1);
    const first = await page.evaluate(held);
    await page.evaluate(run, 99);
    t.diagnostic(`wasm memory after 1 picture ${(first / MIB).toFixed(2)} MiB, after 100 ${((await page.evaluate(held)) / MIB).toFixed(2)} MiB`);
    assert.equal(await page.evaluate(held), first);
    // Negative control: two networks at once take more.
    await page.evaluate(() => net.classifyMany([picture, picture], { batch: 2 }));
    assert.ok((await page.evaluate(held)) > first);
    await page.close();
  });

  test(`${WORKER_CYCLES} in workers`, { timeout: 600_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    const devtools = await page.context().newCDPSession(page);
    const options = { backend: 'wasm' };
    assert.deepEqual(await page.evaluate(cycle, { count: 10, options }), [LABEL]);
    const before = await heap(devtools);
    assert.deepEqual(await page.evaluate(cycle, { count: WORKER_CYCLES - 10, options }), [LABEL]);
    const after = await heap(devtools);
    t.diagnostic(`page's heap after 10 cycles ${(before / MIB).toFixed(2)} MiB, after ${WORKER_CYCLES} ${(after / MIB).toFixed(2)} MiB; workers left: ${page.workers().length}`);
    assert.equal(page.workers().length, 0);
    assert.ok(after - before < MIB / 2, `the heap grew by ${after - before} bytes`);
    await page.close();
  });
});

// This runs on Firefox's software adapter, which is several times faster than Chromium's.
describe('the memory of a GPU is freed', { concurrency: false }, () => {
  let browser, remove, site, page;

  before(async () => {
    const project = await bare();
    remove = project.remove;
    site = await serve(project.folder);
    browser = await launchFirefox();
    ({ page } = await visit(browser, site.url));
    await ready(page);
    await page.evaluate(smaller);
    await page.evaluate(() => {
      // The buffers and textures of each device that has not been destroyed: when a browser collects what nobody holds
      // is its own affair.
      window.live = new Map();
      window.opened = 0;
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await requestDevice.apply(this, args);
        opened++;
        live.set(device, 0);
        return device;
      };
      const { createBuffer, createTexture, destroy } = GPUDevice.prototype;
      GPUDevice.prototype.createBuffer = function (descriptor) {
        live.set(this, live.get(this) + descriptor.size);
        return createBuffer.call(this, descriptor);
      };
      GPUDevice.prototype.createTexture = function (descriptor) {
        const { width, height } = descriptor.size;
        live.set(this, live.get(this) + width * height * 16); // of four floats, all of them
        return createTexture.call(this, descriptor);
      };
      GPUDevice.prototype.destroy = function () {
        live.delete(this);
        return destroy.call(this);
      };
    });
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await remove?.();
  });

  const left = () => page.evaluate(() => ({ opened, devices: live.size, bytes: [...live.values()].reduce((a, b) => a + b, 0) }));
  const options = { worker: false, backend: 'webgpu' };

  test('while it is in use, it is counted', async () => {
    await page.evaluate(async (options) => {
      window.net = await GoogLeNet.load({ model, ...options });
    }, options);
    const { opened, devices, bytes } = await left();
    assert.deepEqual([opened, devices], [1, 1]);
    assert.ok(bytes > 10 * MIB, `${bytes} bytes`);
    await page.evaluate(() => net.free());
    await page.waitForFunction(() => live.size === 0, { timeout: 10_000 });
  });

  test(`${GPU_CYCLES} times`, { timeout: 1_800_000 }, async (t) => {
    const before = await left();
    const labels = new Set();
    for (let i = 0; i < GPU_CYCLES; i += 20) {
      for (const label of await page.evaluate(cycle, { count: 20, options })) labels.add(label);
    }
    assert.equal(labels.size, 1);
    await page.waitForFunction(() => live.size === 0, { timeout: 10_000 });
    const { opened, devices, bytes } = await left();
    t.diagnostic(`${opened - before.opened} devices opened in ${GPU_CYCLES} cycles, ${devices} left with ${bytes} bytes`);
    assert.equal(opened - before.opened, GPU_CYCLES);
  });

  test('also after a load that was aborted at any point, or that failed', { timeout: 120_000 }, async () => {
    const before = await left();
    for (const phase of ['download', 'compile', 'upload']) {
      const load = async ({ phase, options }) => {
        const ender = new AbortController();
        const onProgress = (progress) => progress.phase === phase && ender.abort();
        return GoogLeNet.load({ onProgress, signal: ender.signal, ...options }).then(() => 'none', ({ code }) => code);
      };
      assert.equal(await page.evaluate(load, { phase, options }), 'aborted', phase);
    }
    const failing = async (options) => GoogLeNet.load({ model: new Blob(['no model']), ...options }).then(() => 'none', ({ code }) => code);
    assert.equal(await page.evaluate(failing, options), 'import');
    // A worker may still be starting when its load has ended.
    await page.waitForFunction((opened) => window.opened === opened && live.size === 0, { timeout: 60_000 }, before.opened + 4);
  });
});

// 200 times load, classify, free: everything comes back.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launchChromium } from '../support.mjs';
import { LABEL, bare, ready, serve, visit } from './support.mjs';

const CYCLES = 200;
const MIB = 1 << 20;

describe(`${CYCLES} cycles of load, classify, free`, { concurrency: false }, () => {
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

  /** The page's own JavaScript heap after a collection, in bytes. */
  const heap = async (devtools) => {
    await devtools.send('HeapProfiler.collectGarbage');
    await devtools.send('HeapProfiler.collectGarbage');
    return (await devtools.send('Runtime.getHeapUsage')).usedSize;
  };

  /** The model for pictures of a quarter of the size, as software adapters take seconds for the whole one. */
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

  /** So many cycles; gives what was seen. */
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

  test('on the calling thread, where memory can be seen', { timeout: 600_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    const devtools = await page.context().newCDPSession(page);
    await page.evaluate(() => {
      window.memories = [];
      const instantiate = WebAssembly.instantiate;
      WebAssembly.instantiate = async (...args) => {
        const result = await instantiate(...args);
        const { memory } = (result.instance ?? result).exports;
        if (memory) memories.push(memory);
        return result;
      };
    });
    const options = { worker: false, backend: 'wasm' };
    const wasm = () => page.evaluate(() => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));
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

  test('in workers', { timeout: 600_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    const devtools = await page.context().newCDPSession(page);
    const options = { backend: 'wasm' };
    assert.deepEqual(await page.evaluate(cycle, { count: 10, options }), [LABEL]);
    const before = await heap(devtools);
    assert.deepEqual(await page.evaluate(cycle, { count: CYCLES - 10, options }), [LABEL]);
    const after = await heap(devtools);
    t.diagnostic(`page's heap after 10 cycles ${(before / MIB).toFixed(2)} MiB, after ${CYCLES} ${(after / MIB).toFixed(2)} MiB; workers left: ${page.workers().length}`);
    assert.equal(page.workers().length, 0);
    assert.ok(after - before < MIB, `the heap grew by ${after - before} bytes`);
    await page.close();
  });

  test('on WebGPU, whose buffers are counted', { timeout: 1_800_000 }, async (t) => {
    const { page } = await visit(browser, site.url);
    await ready(page);
    await page.evaluate(() => {
      // A device that is destroyed, or that nobody holds any more, has freed its buffers.
      window.live = new Map();
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await request.apply(this, args);
        window.gone ??= new FinalizationRegistry((key) => live.delete(key));
        const key = {};
        live.set(key, 0);
        gone.register(device, key);
        const create = device.createBuffer;
        device.createBuffer = function (descriptor) {
          live.set(key, live.get(key) + descriptor.size);
          return create.call(this, descriptor);
        };
        void device.lost.then(() => live.delete(key));
        return device;
      };
    });
    await page.evaluate(smaller);
    const devtools = await page.context().newCDPSession(page);
    const labels = await page.evaluate(cycle, { count: CYCLES, options: { worker: false, backend: 'webgpu' } });
    assert.equal(labels.length, 1);
    await heap(devtools);
    await page.waitForTimeout(500);
    await heap(devtools);
    const left = await page.evaluate(() => [...live.values()]);
    t.diagnostic(`devices left after ${CYCLES} cycles: ${left.length}, with ${(left.reduce((a, b) => a + b, 0) / MIB).toFixed(1)} MiB of buffers`);
    assert.ok(left.length <= 1, `${left.length} devices are left`);
    await page.close();
  });
});

// A GPU that is lost, and a GPU that does not answer.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { launchFirefox, setting, visitTests } from './support.mjs';

const GPU = { model: '/models/cifar10-noheads.safetensors', backend: 'gpu', heads: false };
const PICTURE = '/samples/cat.jpg';
/** The number of times that the device is destroyed. */
const TIMES = Number(process.env.FAULTS ?? 10);

// Firefox's software adapter is fast enough for many runs of the whole network.
describe('GPU faults', { concurrency: false }, () => {
  const here = setting(launchFirefox);
  let page;

  before(async () => {
    page = await visitTests(here.browser, here.server.url, 'variants');
  });
  const call = (name, ...args) => page.evaluate(([name, args]) => window.variants[name](...args), [name, args]);

  test('a device that is destroyed at any moment costs no answer', { timeout: 60_000 + TIMES * 30_000 }, async (t) => {
    const { answers, told, backends, rejections } = await call('faults', GPU, PICTURE, TIMES);
    t.diagnostic(`${answers.length} answers, ${told} losses told, ${rejections} unhandled rejections, went on with ${[...new Set(backends)]}`);
    assert.deepEqual(answers, Array(TIMES).fill('cat'));
    assert.equal(rejections, 0);
    assert.ok(told >= TIMES / 2, `${told} devices were lost`);
  });

  test('pictures overlap on the GPU', { timeout: 300_000 }, async (t) => {
    const pictures = ['cat', 'dog', 'horse', 'cat', 'dog'].map((name) => `/samples/${name}.jpg`);
    const { alone, together, most, buffers } = await call('overlap', GPU, pictures);
    t.diagnostic(`${together}`);
    assert.ok(new Set(alone).size > 1, 'the pictures are told apart');
    assert.deepEqual({ together, most, buffers }, { together: alone, most: 2, buffers: 0 });
  });

  test('weights are uploaded to the GPU while they are downloaded', { timeout: 120_000 }, async (t) => {
    const { label, before, after } = await call('streamed', GPU, PICTURE);
    t.diagnostic(`${before} bytes before the second half, ${after} in all`);
    assert.equal(label, 'cat');
    // The browser waits for these promises, and would wait forever.
    assert.ok(before < after);
  });

  test('a device that is lost while the model is loaded is followed by another', { timeout: 300_000 }, async () => {
    const after = [0, 20, 100, 300, 600];
    const seen = await call('lostAtLoad', GPU, PICTURE, after);
    assert.deepEqual(seen, after.map(() => ({ label: 'cat', backend: 'webgpu' })));
  });

  test('a GPU that computes wrongly is detected while loading', { timeout: 300_000 }, async (t) => {
    const { backend, reason } = await call('idle', GPU);
    t.diagnostic(reason);
    assert.equal(backend, 'wasm');
    assert.match(reason, /computes wrongly: inception_3a\/output has 0\.0 where [-\d.]+ is right/);
    const unchecked = await call('idle', { ...GPU, check: false });
    assert.equal(unchecked.backend, 'webgpu');
  });

  test('a GPU that computes rightly passes', { timeout: 300_000 }, async (t) => {
    const times = { with: [], without: [] };
    // The time is measured to the first answer: shaders that are compiled for the check are not compiled again for the
    // picture.
    for (let i = 0; i < 3; i++) {
      for (const check of [true, false]) {
        const { backend, ms } = await call('fresh', { ...GPU, check }, PICTURE);
        assert.equal(backend, 'webgpu');
        times[check ? 'with' : 'without'].push(Math.round(ms));
      }
    }
    t.diagnostic(`ms to the first answer with the check ${times.with}, without ${times.without}`);
  });

  test('a panic is an error, and closes only one network', { timeout: 300_000 }, async (t) => {
    const { code, message, closed, after } = await call('panic', GPU, PICTURE);
    t.diagnostic(message);
    assert.deepEqual({ code, closed, after }, { code: 'internal', closed: true, after: ['cat', 'cat'] });
  });

  test('a GPU that does not answer is given up', { timeout: 300_000 }, async () => {
    const { label, backend, message } = await call('hung', GPU, PICTURE);
    assert.equal(label, 'cat');
    assert.equal(backend, 'wasm');
    assert.match(message, /did not answer within \d+ s/);
  });
});

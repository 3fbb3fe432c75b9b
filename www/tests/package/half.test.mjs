// Half precision, in Firefox, whose software adapter supports it; Chromium's does not.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launchChromium, launchFirefox } from '../support.mjs';
import { LABEL, bare, ready, serve, visit } from './support.mjs';

describe('half precision', { concurrency: false }, () => {
  let remove, site;

  before(async () => {
    const project = await bare();
    remove = project.remove;
    site = await serve(project.folder);
  });
  after(async () => {
    site?.stop();
    await remove?.();
  });

  /** Returns the answers of a page's network for the photograph, with different options each time. */
  const answers = async (launch, each) => {
    const browser = await launch();
    try {
      const { page } = await visit(browser, site.url);
      await ready(page);
      const ask = async (each) => {
        const picture = await (await fetch('cat.jpg')).blob();
        const all = [];
        for (const options of each) {
          const net = await GoogLeNet.load({ heads: false, ...options });
          all.push({ ...(await net.classify(picture, { top: 10 })), f16: net.info.f16, reason: net.info.reason });
          net.free();
        }
        return all;
      };
      return await page.evaluate(ask, each);
    } finally {
      await browser.close();
    }
  };

  test('gives the same answer on a GPU that has it', { timeout: 300_000 }, async (t) => {
    const [whole, half] = await answers(launchFirefox, [{ backend: 'webgpu' }, { backend: 'webgpu', f16: true, check: true }]);
    assert.deepEqual([whole.f16, half.f16], [false, true]);
    assert.equal(half.top[0].label, LABEL);
    assert.deepEqual(half.top.slice(0, 5).map(({ label }) => label).sort(), whole.top.slice(0, 5).map(({ label }) => label).sort());
    const of = ({ top }) => top.toSorted((a, b) => a.index - b.index).map(({ probability }) => probability);
    const most = Math.max(...of(half).map((p, at) => Math.abs(p - of(whole)[at])));
    t.diagnostic(`it moves a probability by at most ${most.toExponential(1)}`);
    assert.ok(most > 0 && most < 0.01);
  });

  test('is not used where the GPU does not have it', { timeout: 300_000 }, async () => {
    const [cpu, gpu] = await answers(launchChromium, [{ backend: 'wasm', f16: true }, { backend: 'webgpu', f16: true }]);
    assert.deepEqual([cpu.f16, gpu.f16], [false, false]);
    assert.deepEqual([cpu.top[0].label, gpu.top[0].label], [LABEL, LABEL]);
  });
});

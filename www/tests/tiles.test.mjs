// Contact sheets on the GPU: they are drawn there, and nothing is read back. This runs in Firefox, whose software
// adapter can draw to a canvas; Chromium's crashes the GPU process, so that sheets are read back there.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { launchFirefox, setting, visitTests } from './support.mjs';

describe('tiles on the GPU', () => {
  const here = setting(launchFirefox);
  let page;

  before(async () => {
    page = await visitTests(here.browser, here.server.url, 'variants');
  });

  test('nothing is read back, and the colours are those of the CPU', { timeout: 120_000 }, async (t) => {
    const draw = ([model, pictures]) => window.variants.tiles(model, pictures);
    const pictures = ['/samples/cat.jpg', '/samples/dog.jpg'];
    const { maps, differing } = await page.evaluate(draw, ['/models/cifar10-noheads.safetensors', pictures]);
    const [without, cpu, other] = differing;
    t.diagnostic(`${cpu * 100} % of the bytes differ from the CPU's, ${other * 100} % from another picture's`);
    assert.deepEqual(maps, [0, 1, 3], 'a browser whose canvas fails has each sheet read back');
    assert.equal(without, 0);
    assert.ok(cpu < 1e-3);
    assert.ok(other > 0.1);
  });
});

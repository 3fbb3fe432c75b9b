// Every layer against what Keras and onnxruntime computed, and photographs from file to answer: on the
// CPU in Chromium, on the GPU in Firefox (whose software adapter is ten times faster than Chromium's).

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, describe, test } from 'node:test';
import { compared, launchChromium, launchFirefox, photo, setting, visitTests } from './support.mjs';

const MODELS = {
  caffe: { model: '/models/imagenet.safetensors', golden: '/reference/imagenet/golden_chelsea.safetensors', layers: 84 },
  keras: { model: '/converted/keras.safetensors', golden: '/reference/keras/golden_googlenet.safetensors', layers: 58 },
};
const PHOTOS = ['chelsea.png', 'coffee.png', 'camera.png'];

const ENGINES = [
  { where: 'cpu in Chromium', backend: 'cpu', launch: launchChromium },
  { where: 'gpu in Firefox', backend: 'gpu', launch: launchFirefox },
];

for (const { where, backend, launch } of ENGINES) {
  describe(where, { ...compared, concurrency: false }, () => {
    const here = setting(launch);
    let page;

    before(async () => {
      page = await visitTests(here.browser, here.server.url, 'parity');
    });

    const open = async (model) => {
      const info = await page.evaluate(([model, backend]) => window.parity.open(model, backend), [model, backend]);
      assert.equal(info.backend, { cpu: 'wasm', gpu: 'webgpu' }[backend]);
      return info;
    };

    for (const [framework, { model, golden, layers }] of Object.entries(MODELS)) {
      test(`every layer is ${framework}'s`, compared, async (t) => {
        const { adapter } = await open(model);
        const compare = ([golden, framework]) => window.parity.compare(golden, framework);
        const all = await page.evaluate(compare, [golden, framework]);
        assert.equal(all.length, layers);
        const [worst] = all.toSorted((a, b) => b.worst - a.worst);
        t.diagnostic(`${all.length} layers on ${adapter}; worst ${worst.node}, ${(worst.worst * 100).toFixed(1)} % of what is allowed`);
        for (const { node, worst, control } of all) {
          assert.ok(worst <= 1, `${node} is ${worst} times what is allowed away from the reference`);
          assert.ok(control > 1, `${node}: a moved element of the reference was not noticed`);
        }
      });
    }

    test('photographs are what they are', compared, async (t) => {
      const expected = JSON.parse(await readFile(photo('expected_top5.json'), 'utf8'));
      await open(MODELS.caffe.model);
      for (const name of PHOTOS) {
        const { top, ms } = await page.evaluate((url) => window.parity.classify(url), `/reference/imagenet/${name}`);
        const [index, label, probability] = expected[name][0];
        assert.equal(top[0].index, index, `${name}: ${top[0].label} instead of ${label}`);
        const away = Math.abs(top[0].probability - probability);
        assert.ok(away < 0.02, `${name}: ${top[0].probability} instead of ${probability}`);
        t.diagnostic(`${name}: ${top[0].label} ${top[0].probability.toFixed(4)} (${away.toFixed(5)} away), ${ms.run.toFixed(0)} ms`);
      }
    });
  });
}

// Compares every layer with Keras and onnxruntime, BVLC's layers with f64 too, and the answers for photographs: on the
// CPU in Chromium, and on the GPU in Firefox, whose software adapter is ten times faster than Chromium's.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { before, describe, test } from 'node:test';
import { compared, launchChromium, launchFirefox, photo, setting, visitTests } from './support.mjs';

const MODELS = {
  caffe: { model: '/models/imagenet.safetensors', golden: '/reference/imagenet/golden_chelsea.safetensors', layers: 84 },
  keras: { model: '/converted/keras.safetensors', golden: '/reference/keras/golden_googlenet.safetensors', layers: 58 },
};
const EXACT = { file: '/converted/exact.safetensors', layers: 84 };
// onnxruntime also adds in f32, and its terms of up to 1800 cancel: its own error against f64 is 0.92 of the tolerance
// (tests/golden.rs). So a few elements may be beyond the tolerance here, and none where the reference is exact.
const ROUNDED = { elements: 8, times: 2, layers: 10 };
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

    const compare = async (t, file, of, count) => {
      const layers = await page.evaluate(([file, of]) => window.parity.compare(file, of), [file, of]);
      assert.equal(layers.length, count);
      const [worst] = layers.toSorted((a, b) => b.worst - a.worst);
      t.diagnostic(`${of}: ${layers.length} layers; worst ${worst.node}, ${(worst.worst * 100).toFixed(1)} % of what is allowed`);
      for (const { node, control } of layers) assert.ok(control > 1, `${node}: a moved element of the reference was not noticed`);
      return layers.filter(({ beyond }) => beyond > 0).map(({ node, worst, beyond }) => ({ node, worst, beyond }));
    };

    test("every layer equals Keras'", compared, async (t) => {
      const { model, golden, layers } = MODELS.keras;
      await open(model);
      assert.deepEqual(await compare(t, golden, 'keras', layers), []);
    });

    test("every layer equals Caffe's, and exact arithmetic", compared, async (t) => {
      const { model, golden, layers } = MODELS.caffe;
      const { adapter } = await open(model);
      t.diagnostic(adapter);
      const rounded = await compare(t, golden, 'caffe', layers);
      const far = ({ beyond, worst }) => beyond > ROUNDED.elements || worst > ROUNDED.times;
      assert.deepEqual(rounded.filter(far), []);
      assert.ok(rounded.length <= ROUNDED.layers, JSON.stringify(rounded));
      assert.deepEqual(await compare(t, EXACT.file, 'exact', EXACT.layers), []);
    });

    test('photographs are classified correctly', compared, async (t) => {
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

// The packed package in Node: no canvas, no worker, raw pixels.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { compared, launchChromium, reference } from '../support.mjs';
import { LABEL, PHOTO, project } from './support.mjs';
import { readFile, writeFile } from 'node:fs/promises';

const PROGRAM = `
import { readFile } from 'node:fs/promises';
import { GoogLeNet, GoogLeNetError } from 'googlenet-web';
const [, , path, width, height] = process.argv;
const picture = { data: await readFile(path), width: Number(width), height: Number(height) };
const net = await GoogLeNet.load();
const { top, heads } = await net.classify(picture);
const features = await net.features(picture);
const { logit, bias, channels } = await net.contributions(top[0].index);
const codes = [];
for (const wrong of [() => net.classify({ ...picture, width: 7 }), () => net.classify('cat.jpg'), () => GoogLeNet.load({ backend: 'webgpu' })]) {
  await wrong().catch((error) => codes.push([error instanceof GoogLeNetError, error.code]));
}
const tiny = { data: new Uint8ClampedArray(64), width: 4, height: 4 };
const [many] = await Promise.allSettled([net.classifyMany(Array(2000).fill(tiny), { batch: 2000 })]);
const [first, second] = await net.classifyMany([picture, picture], { batch: 2 });
const { info } = net;
net.free();
console.log(JSON.stringify({ top, heads, features: features.length, logit, sum: channels.reduce((a, b) => a + b, bias), codes, many: [many.reason?.code, many.reason?.message], same: [first.top[0].label, second.top[0].label], info }));
`;

const FOREIGN = `
import { readFile } from 'node:fs/promises';
import { GoogLeNet } from 'googlenet-web';
const model = await readFile(process.argv[2]);
const said = [];
for (const imported of [undefined, { mean: [1, 2] }, { mean: [0, 0, 0], labels: ['one'] }]) {
  await GoogLeNet.load({ model, imported }).catch(({ code, detail }) => said.push([code, detail]));
}
const labels = Array.from({ length: 1000 }, (_, i) => 'kind ' + i);
const white = { data: new Uint8ClampedArray(400).fill(255), width: 10, height: 10 };
const input = [];
for (const imported of [{ mean: [1, 2, 3], labels }, { mean: [0.5, 0.5, 0.5], scale: 1 / 255, std: [0.5, 0.25, 0.1] }]) {
  const net = await GoogLeNet.load({ model, imported, heads: false });
  const { top } = await net.classify(white);
  const { data } = await net.activation(net.layers[0].layer);
  input.push([...data.subarray(0, 3)].map((value) => Number(value.toFixed(4))), top[0].label);
}
console.log(JSON.stringify({ said, input }));
`;

describe('Node', () => {
  let folder, remove;

  before(async () => {
    ({ folder, remove } = await project({ files: { 'main.js': PROGRAM, 'foreign.js': FOREIGN, 'element.js': "import 'googlenet-web/element';" } }));
  });
  after(() => remove?.());

  test('classifies raw pixels', { timeout: 120_000 }, async (t) => {
    const { width, height } = await decode(join(folder, 'cat.rgba'));
    const { stdout } = await promisify(execFile)(process.execPath, ['main.js', 'cat.rgba', width, height], { cwd: folder });
    const { top, heads, features, logit, sum, codes, many, same, info } = JSON.parse(stdout);
    assert.equal(top[0].label, LABEL);
    assert.deepEqual(heads.map(({ name }) => name), ['loss1', 'loss2', 'loss3']);
    assert.equal(features, 1024);
    assert.ok(Math.abs(logit - sum) < 1e-9);
    assert.deepEqual(codes, [[true, 'image'], [true, 'argument'], [true, 'no-gpu']]);
    assert.equal(many[0], 'memory');
    assert.match(many[1], /needs \d+ MB of memory, more than there is/);
    assert.deepEqual(same, [LABEL, LABEL], 'it goes on after what there was no room for');
    assert.equal(info.backend, 'wasm');
    // The register tiles of relaxed SIMD do not fit older compilers.
    assert.match(info.adapter, Number.parseInt(process.versions.v8, 10) < 13 ? /simd128/ : /relaxed/);
    t.diagnostic(`Node ${process.version}, ${info.adapter}: ${top[0].label}, ${(top[0].probability * 100).toFixed(1)} %`);
  });

  test('the option `imported` supplies what a Keras file does not state', compared, async () => {
    const file = join(reference, 'keras/googlenet_keras3.weights.h5');
    const { stdout } = await promisify(execFile)(process.execPath, ['foreign.js', file], { cwd: folder });
    const { said, input: [first, label, second, other] } = JSON.parse(stdout);
    assert.deepEqual(said, [['import', 'preprocessing'], ['argument', null], ['metadata', 'labels']]);
    assert.deepEqual([first, second], [[254, 253, 252], [1, 2, 5]]);
    assert.match(label, /^kind \d+$/);
    assert.doesNotMatch(other, /^kind/, 'of 1000 unnamed classes the names are ImageNet\'s');
  });

  test('imports the element without a DOM', async () => {
    await promisify(execFile)(process.execPath, ['element.js'], { cwd: folder });
  });
});

/** Writes the photograph's pixels, which a browser decodes. */
async function decode(to) {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const { width, height, data } = await page.evaluate(async (jpeg) => {
      const bitmap = await createImageBitmap(await (await fetch(jpeg)).blob());
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      let text = '';
      for (const byte of data) text += String.fromCharCode(byte);
      return { width: bitmap.width, height: bitmap.height, data: btoa(text) };
    }, `data:image/jpeg;base64,${(await readFile(PHOTO)).toString('base64')}`);
    await writeFile(to, Buffer.from(data, 'base64'));
    return { width, height };
  } finally {
    await browser.close();
  }
}

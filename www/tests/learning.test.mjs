// Gradients and training in the browser, with the module that a page fetches when something is to be learnt.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { compared, launchChromium, reference, setting, visitTests } from './support.mjs';

const SETTING = { timeout: 180_000 };
const MODEL = '/models/cifar10.safetensors';
const KERAS = '/converted/keras.safetensors';
const GOLDEN = '/reference/keras/golden_gradients.safetensors';

/** The classes of the four pictures, the norms of the tensors' gradients in order of size, and the losses. */
async function golden() {
  const file = await readFile(join(reference, 'keras/golden_gradients.safetensors'));
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString());
  const [from, to] = header.labels.data_offsets;
  const classes = Array.from(new Int32Array(file.buffer.slice(file.byteOffset + 8 + length + from, file.byteOffset + 8 + length + to)));
  const { gradients, curves } = header.__metadata__;
  const norms = Object.values(JSON.parse(gradients)).map(({ norm }) => norm);
  return { classes, norms: norms.sort((a, b) => a - b), losses: JSON.parse(curves).plain[0] };
}

describe('learning on the CPU in Chromium', { concurrency: false }, () => {
  const here = setting(launchChromium);
  let page;

  before(async () => {
    page = await visitTests(here.browser, here.server.url, 'learning');
  });

  const call = (name, ...args) => page.evaluate(([name, args]) => window.learning[name](...args), [name, args]);

  test("gradients are those of TensorFlow in double precision", { ...compared, ...SETTING }, async (t) => {
    const { classes, norms, losses } = await golden();
    const info = await call('open', { model: KERAS, heads: true, threads: 2 });
    assert.equal(info.threads, 2);
    const got = await call('golden', GOLDEN, classes, norms);
    assert.equal(got.tensors, 126);
    assert.ok(Math.abs(got.value / losses[0] - 1) < 1e-5, `${got.value} instead of ${losses[0]}`);
    // The forward pass in f32 changes the winner of a few max pools, where the gradient is not continuous, so that some
    // pictures differ in isolated patches. Elsewhere the input's gradient is exact.
    t.diagnostic(`norms of tensors: ${got.worst.toExponential(1)}; inputs: ${got.pictures.map((v) => v.toExponential(1)).join(', ')}`);
    assert.ok(got.worst < 2e-4, `${got.worst}`);
    assert.ok(Math.min(...got.pictures) < 1e-5 && Math.max(...got.pictures) < 1e-2, `${got.pictures}`);
    // Negative control: other classes have other gradients.
    const other = await call('golden', GOLDEN, classes.toReversed(), norms);
    assert.ok(other.worst > 1e-2 && Math.min(...other.pictures) > 0.1);
  });

  test('the loss falls, and a training repeats bit for bit', SETTING, async (t) => {
    const { losses, differ } = await call('repeat', { model: MODEL, heads: true, threads: 2 }, 224, 6);
    t.diagnostic(losses.map((loss) => loss.toFixed(3)).join(', '));
    assert.deepEqual(differ, []);
    assert.ok(losses.at(-1) < 0.8 * losses[0], `${losses}`);
  });

  test('what cannot be differentiated is an error', SETTING, async () => {
    await call('open', { model: MODEL, heads: false, threads: 1 });
    const score = (head, classNumber) => JSON.stringify({ score: { head, class: classNumber } });
    const values = Array(224 * 224 * 3).fill(0);
    for (const [objective, of, code, says] of [
      [score('loss3', 10), '"input"', 'argument', /no channel 10/],
      [score('loss9', 0), '"input"', 'unknown-node', /loss9/],
      ['{"nonsense":1}', '"input"', 'argument', /nonsense/],
      [score('loss3', 0), '{"layer":"nothing"}', 'unknown-node', /nothing/],
    ]) {
      const error = await call('refusal', 'gradient', values, objective, of);
      assert.equal(error?.code, code, objective);
      assert.match(error.message, says);
    }
    assert.equal((await call('refusal', 'update', '{"rate":1,"step":0,"optimiser":"magic"}'))?.code, 'argument');
    assert.equal((await call('refusal', 'update', '{"rate":0.1,"step":0}'))?.code, 'argument', 'nothing was accumulated');
    assert.equal(await call('refusal', 'gradient', values, score('loss3', 3), '"input"'), undefined);
  });
});

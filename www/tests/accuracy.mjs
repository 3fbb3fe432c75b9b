// Classifies CIFAR-10's test pictures with the bundled model in browsers, and compares each answer with the native one.
// `cargo xtask accuracy --browser` runs this: node accuracy.mjs ANSWERS PICTURES PICTURES_ON_CHROMIUM_GPU

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { launchChromium, launchFirefox, serve, visitTests } from './support.mjs';

/** The greatest difference of a probability: two engines add in different orders. */
const ALLOWED = 1e-3;

const [file, sample, onChromiumGpu] = process.argv.slice(2);
const native = JSON.parse(await readFile(file, 'utf8'));

const RUNS = [
  { where: 'CPU in Chromium', backend: 'cpu', launch: launchChromium, count: Number(sample) },
  { where: 'GPU in Chromium', backend: 'gpu', launch: launchChromium, count: Number(onChromiumGpu) },
  { where: 'GPU in Firefox', backend: 'gpu', launch: launchFirefox, count: Number(sample) },
];

const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

/** Returns the greatest difference between a browser's answer and the native one, over every class of every head. */
function distance(answer, { probabilities }) {
  const away = native.heads.map((head, h) => answer[head].map((p, c) => Math.abs(p - probabilities[h][c])));
  return Math.max(...away.flat());
}

const server = await serve();
try {
  for (const { where, backend, launch, count } of RUNS) {
    const pictures = native.pictures.slice(0, count);
    if (pictures.length > 0) await run(where, backend, launch, pictures);
  }
} finally {
  server.stop();
}

async function run(where, backend, launch, pictures) {
  const browser = await launch();
  try {
    const page = await visitTests(browser, server.url, 'sample');
    const open = ([backend]) => window.sample.open('/models/cifar10.safetensors', backend, '/cifar10/test_batch.png');
    const info = await page.evaluate(open, [backend]);
    assert.equal(info.backend, { cpu: 'wasm', gpu: 'webgpu' }[backend]);

    const start = performance.now();
    const right = native.heads.map(() => 0);
    let [worst, strangers] = [0, 0];
    for (const [n, picture] of pictures.entries()) {
      const answer = await page.evaluate((n) => window.sample.classify(n), n);
      const away = distance(answer, picture);
      assert.ok(away <= ALLOWED, `picture ${n}: ${away} away from the native answer`);
      const last = native.heads.at(-1);
      assert.equal(best(answer[last]), best(picture.probabilities.at(-1)), `picture ${n}: another class than natively`);
      native.heads.forEach((head, h) => (right[h] += best(answer[head]) === picture.label));
      worst = Math.max(worst, away);
      // Negative control: the comparison must detect the answer of another picture.
      const other = pictures[(n + 1) % pictures.length];
      strangers += other !== picture && distance(answer, other) <= ALLOWED;
    }
    assert.ok(strangers <= pictures.length / 10, `${strangers} pictures have their neighbours' answers`);
    const each = (performance.now() - start) / pictures.length;
    const shares = native.heads.map((head, h) => `${head} ${((100 * right[h]) / pictures.length).toFixed(1)} %`);
    console.log(`${where} (${info.adapter}): ${pictures.length} pictures, ${shares.join(', ')}; ` +
      `at most ${worst.toExponential(1)} from the native answers; ${each.toFixed(0)} ms each`);
  } finally {
    await browser.close();
  }
}

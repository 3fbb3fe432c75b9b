// Measures training steps in Chromium, with the page of the tests. `cargo xtask bench train` runs this.

import { writeFile } from 'node:fs/promises';
import { launchChromium, serve, visitTests } from '../tests/support.mjs';

const MODEL = '/models/cifar10.safetensors';
const BATCH = 4;
const rounds = Number(process.env.BENCH_ROUNDS);

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

const server = await serve();
const browser = await launchChromium();
const rows = [];
console.log(`In Chromium, milliseconds a picture, batches of ${BATCH}:`);
console.log('| build | threads | forward | forward and backward | whole step | step / forward |');
console.log('| --- | ---: | ---: | ---: | ---: | ---: |');
try {
  for (const threads of [1, 2]) {
    const page = await visitTests(browser, server.url, 'learning');
    const request = { model: MODEL, heads: true, threads };
    const { info, times } = await page.evaluate(
      ([request, batch, rounds]) => window.learning.time(request, batch, rounds),
      [request, BATCH, rounds + 2],
    );
    // The first two rounds compile and allocate.
    const [forward, gradient, update] = ['forward', 'gradient', 'update'].map((name) => median(times[name].slice(2)) / BATCH);
    const step = gradient + update;
    rows.push({ runtime: 'googlenet-web wasm', adapter: info.adapter, threads, batch: BATCH, forward_ms: forward, gradient_ms: gradient, update_ms: update, step_ms: step });
    const cells = [forward, gradient, step].map((ms) => ms.toFixed(1));
    console.log(`| ${info.adapter} | ${info.threads} | ${cells.join(' | ')} | ${(step / forward).toFixed(2)}x |`);
    await page.close();
  }
} finally {
  await browser.close();
  server.stop?.();
}
await writeFile(process.env.BENCH_JSON, JSON.stringify(rows));

// The engine's four builds for the CPU, and its threads, in browsers.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, describe, test } from 'node:test';
import { disguise, launchChromium, launchFirefox, setting, visitTests } from './support.mjs';

const MODEL = '/models/cifar10-noheads.safetensors';
const PICTURE = '/samples/cat.jpg';
const OTHER = '/samples/dog.jpg';
const CPU = { model: MODEL, backend: 'cpu' };
const SETTING = { timeout: 120_000 };
/** The quick build has one CPU module, which is used in place of all four. */
const FOUR_MODULES = { ...SETTING, skip: process.env.QUICK_MODULES ? 'skipped: the quick build has one CPU module' : false };

for (const [browserName, launch] of [['Chromium', launchChromium], ['Firefox', launchFirefox]]) {
  describe(`threads in ${browserName}`, { concurrency: false }, () => {
    const here = setting(launch);
    let page;
    const disguised = [];

    after(() => disguised.forEach((site) => site.stop()));

    /** Opens the tests' page on a site. */
    const visit = async (url) => {
      await page?.close();
      page = await visitTests(here.browser, url, 'variants');
    };
    /** Serves the site with other headers. */
    const visitAs = async (change) => {
      const site = await disguise(here.server.url, change);
      disguised.push(site);
      await visit(site.url);
    };
    const call = (name, ...args) => page.evaluate(([name, args]) => window.variants[name](...args), [name, args]);
    const run = (options, picture = PICTURE) => call('run', { ...CPU, ...options }, picture);

    test('one thread and two give the same answer, bit for bit', SETTING, async (t) => {
      await visit(here.server.url);
      const [one, two] = [await run({ threads: 1 }), await run({ threads: 2 })];
      assert.equal(one.info.threads, 1);
      assert.equal(two.info.threads, 2);
      assert.deepEqual(two.probabilities, one.probabilities);
      // Negative control: the answer depends on the picture.
      const other = await run({ threads: 2 }, OTHER);
      assert.ok(distance(other.probabilities, two.probabilities) > 1e-2);
      assert.ok(Math.abs(one.probabilities.reduce((a, b) => a + b) - 1) < 1e-5);
      t.diagnostic(`${one.info.adapter}, ${total(one).toFixed(0)} ms; with two threads ${total(two).toFixed(0)} ms`);
    });

    test('plain and relaxed SIMD give the same answer', FOUR_MODULES, async () => {
      await visit(here.server.url);
      for (const threads of [1, 2]) {
        const [plain, relaxed] = [await run({ simd: 'plain', threads }), await run({ simd: 'relaxed', threads })];
        assert.match(plain.info.adapter, /simd128/);
        assert.match(relaxed.info.adapter, /relaxed/);
        const away = distance(plain.probabilities, relaxed.probabilities);
        assert.ok(away <= 1e-4, `${away} apart`);
      }
    });

    if (browserName === 'Chromium') {
      test('an older Chromium uses plain SIMD by default', FOUR_MODULES, async () => {
        await visit(here.server.url);
        const as = async (version) => {
          await page.evaluate((version) => {
            Object.defineProperty(navigator, 'userAgent', { configurable: true, value: `Mozilla/5.0 Chrome/${version}.0.0.0` });
          }, version);
          return (await run({ worker: false })).info.adapter;
        };
        assert.match(await as(129), /simd128/);
        assert.match(await as(130), /relaxed/);
      });
    }

    test('steps are timed when asked for', SETTING, async () => {
      await visit(here.server.url);
      const { profiles: [before, timed] } = await run({ threads: 1 });
      assert.deepEqual(before, []);
      assert.ok(timed.some(({ node }) => node === 'inception_4b/3x3') && timed.every(({ ms }) => ms >= 0));
      assert.ok(timed.reduce((sum, { ms }) => sum + ms, 0) > 0);
    });

    test('a page that is not isolated has one thread', SETTING, async () => {
      await visitAs((headers) => {
        delete headers['cross-origin-opener-policy'];
        delete headers['cross-origin-embedder-policy'];
      });
      assert.equal(await page.evaluate(() => crossOriginIsolated), false);
      const { info, probabilities } = await run({ threads: 2 });
      assert.equal(info.threads, 1);
      await visit(here.server.url);
      assert.deepEqual((await run({ threads: 2 })).probabilities, probabilities);
    });

    test('a strict content policy allows threads', SETTING, async () => {
      await visitAs((headers) => {
        headers['content-security-policy'] =
          "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";
      });
      assert.equal((await run({ threads: 2 })).info.threads, 2);
    });

    test('as many threads as asked for, at most eight by default', SETTING, async () => {
      await visit(here.server.url);
      const cores = await page.evaluate(() => navigator.hardwareConcurrency);
      assert.equal((await call('open', CPU)).threads, Math.min(cores, 8));
      assert.equal((await call('open', { ...CPU, threads: 5 })).threads, 5);
      assert.equal(await call('refusal', { ...CPU, threads: 0 }), 'argument');
      assert.equal(await call('refusal', { ...CPU, threads: 1.5 }), 'argument');
    });

    test('a browser without SIMD gets an error message', SETTING, async () => {
      await visitAs((headers, url) => {
        if (/worker-.*\.js$/.test(url)) return 'WebAssembly.validate = () => false;\n';
      });
      assert.equal(await call('refusal', CPU), 'no-simd');
    });

    test('the team of threads runs every task once', SETTING, async () => {
      await visit(here.server.url);
      for (let threads = 1; threads <= 8; threads++) {
        const { size, wrong } = await call('team', { threads });
        assert.equal(wrong, '', `${threads} threads`);
        assert.equal(size, threads);
      }
    });

    test('a task that throws on a helper ends the run', SETTING, async () => {
      await visit(here.server.url);
      // One of the tasks runs on the calling thread, the other on a helper.
      for (const failing of [0, 1]) {
        assert.match((await call('team', { threads: 2, failing })).wrong, /RuntimeError/);
      }
    });

    test('closing and moving end the helpers', { ...SETTING, skip: process.platform !== 'linux' }, async () => {
      await visit(here.server.url);
      const none = await workers();
      await call('open', { ...CPU, threads: 4 });
      await settled(none + 4);
      await call('move', 'cpu');
      await settled(none + 4);
      await call('close');
      await settled(none);
    });
  });
}

const distance = (a, b) => Math.max(...a.map((p, i) => Math.abs(p - b[i])));
const total = ({ profiles: [, steps] }) => steps.reduce((sum, { ms }) => sum + ms, 0);

/** Counts the worker threads of this process's browsers, by the names that the browsers give them. */
async function workers() {
  let count = 0;
  for (const process of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const tasks = await readdir(`/proc/${process}/task`).catch(() => []);
    for (const task of tasks) {
      const name = await readFile(`/proc/${process}/task/${task}/comm`, 'utf8').catch(() => '');
      if (/^(DedicatedWorker|DOM Worker)/.test(name)) count++;
    }
  }
  return count;
}

/** Waits until there are this many. */
async function settled(expected) {
  let count;
  for (let tries = 0; tries < 50; tries++) {
    count = await workers();
    if (count === expected) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(count, expected, 'workers');
}

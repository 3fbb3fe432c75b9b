// The page as a person uses it, in Chromium.

import assert from 'node:assert/strict';
import { readFile, writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { compared, launchChromium, photo, reference, serve } from './support.mjs';

const CAT = 'Egyptian cat';
const COFFEE = 'espresso';
// What the bundled model may see on the sample pictures: it knows ten things, and a cup of coffee is none.
const BUNDLED = { 'cat.jpg': ['cat'], 'rocket.jpg': ['airplane', 'ship', 'truck', 'bird'] };
const sample = (name) => new URL(`../public/samples/${name}`, import.meta.url).pathname;

describe('the page', { concurrency: false }, () => {
  let server, browser, page, folder;
  const faults = [];

  before(async () => {
    server = await serve();
    browser = await launchChromium();
    folder = await mkdtemp(join(tmpdir(), 'googlenet-'));
  });
  after(async () => {
    await browser?.close();
    server?.stop();
    if (folder) await rm(folder, { recursive: true });
  });
  beforeEach(async () => {
    await page?.context().close();
    const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] });
    page = await context.newPage();
    faults.length = 0;
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  });

  /** Opens the page and waits for the network. */
  const open = async (backend, model = 'imagenet') => {
    await page.goto(`${server.url}/?backend=${backend}&model=${model}`);
    await page.waitForSelector(`#facts[data-backend]`, { timeout: 120_000 });
  };
  /** Drops a file from the disk on the window, as the browser itself hears of it. */
  const drop = async (path) => {
    const devtools = await page.context().newCDPSession(page);
    const data = { items: [], files: [path], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await devtools.send('Input.dispatchDragEvent', { type, x: 600, y: 300, data });
    }
  };
  const answered = (label, timeout = 30_000) =>
    page.waitForFunction((label) => document.querySelector('#top .name')?.firstChild?.textContent === label, label, { timeout });
  const complaint = async (words) => {
    await page.waitForSelector('[role=alert]:not([hidden])', { timeout: 60_000 });
    assert.match(await page.textContent('[role=alert]'), words);
  };
  const chelsea = async () => {
    const rows = await page.$$eval('#top li', (all) => all.map((li) => li.querySelector('.share').textContent));
    assert.equal(rows.length, 5);
    const expected = JSON.parse(await readFile(photo('expected_top5.json'), 'utf8'))['chelsea.png'][0][2];
    assert.ok(Math.abs(parseFloat(rows[0]) / 100 - expected) < 0.02, `${rows[0]} instead of ${expected}`);
    assert.match(await page.textContent('#said'), /^Egyptian cat, 4\d\.\d%/);
    assert.match(await page.textContent('#time'), /network run in \d/);
  };

  for (const backend of ['cpu', 'gpu']) {
    test(`a dropped photograph is named on the ${backend}`, compared, async (t) => {
      await open(backend);
      assert.equal(await page.getAttribute('#facts', 'data-backend'), backend);
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await drop(photo('chelsea.png'));
      await answered(CAT, 300_000);
      await chelsea();
      t.diagnostic(`${await page.textContent('#facts div')}; ${await page.textContent('#time')}`);
      assert.deepEqual(faults, []);
    });
  }

  for (const backend of ['cpu', 'gpu']) {
    test(`the bundled model names the samples on the ${backend}`, { timeout: 600_000 }, async (t) => {
      const asked = [];
      page.on('request', (request) => request.url().includes('/models/') && asked.push(request.url().replace(/.*\//, '')));
      await page.goto(`${server.url}/?backend=${backend}`);
      await page.waitForSelector(`#facts[data-backend=${backend}]`, { timeout: 120_000 });
      // The first model is the bundled one, and its auxiliary heads, which the page does not show, stay where they are.
      assert.deepEqual([...new Set(asked)], ['index.json', 'cifar10-noheads.safetensors']);
      assert.match(await page.textContent('#knows'), /knows only airplane, automobile, .* ship and truck\.$/);
      for (const [name, plausible] of Object.entries(BUNDLED)) {
        await page.evaluate(() => document.querySelector('#top').replaceChildren());
        await drop(sample(name));
        await page.waitForSelector('#top .name', { timeout: 300_000 });
        const [label, share] = await page.$eval('#top li', (li) => ['.name', '.share'].map((c) => li.querySelector(c).textContent));
        t.diagnostic(`${name}: ${label}, ${share}`);
        assert.ok(plausible.includes(label), `${name}: ${label}`);
        assert.equal(await page.isVisible('#unsure'), parseFloat(share) < 40);
      }
      assert.deepEqual(faults, []);
    });
  }

  test('a photograph can be picked, pasted, and taken from the samples', compared, async () => {
    await open('cpu');
    await page.setInputFiles('#file', photo('coffee.png'));
    await answered(COFFEE);

    const png = [...(await readFile(photo('chelsea.png')))];
    await page.evaluate(async (bytes) => {
      const blob = new Blob([new Uint8Array(bytes)], { type: 'image/png' });
      await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
    }, png);
    await page.keyboard.press('Control+V');
    await answered(CAT);
    await chelsea();

    await page.getByRole('button', { name: 'coffee' }).click();
    await answered(COFFEE);
    assert.deepEqual(faults, []);
  });

  test('everything can be reached and used from the keyboard', compared, async () => {
    await open('cpu');
    const reached = [];
    for (let i = 0; i < 11; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.dataset.sample || document.activeElement?.value));
    }
    assert.deepEqual(reached, ['theme', 'show-keys', 'file', 'samples/cat.jpg', 'samples/coffee.jpg', 'samples/rocket.jpg', 'paste', 'webcam', 'folder', 'address', 'cpu']);
    await page.focus('[data-sample="samples/cat.jpg"]');
    await page.keyboard.press('Enter');
    await answered(CAT);
  });

  test('a file that is no picture is refused in words, and the page goes on', compared, async () => {
    await open('cpu');
    await drop(photo('coffee.png'));
    await answered(COFFEE);
    const text = join(folder, 'notes.jpg');
    await writeFile(text, 'This is no photograph.');
    await drop(text);
    await complaint(/cannot be opened.*JPEG/);
    // The picture and the answer from before are still there.
    assert.equal(await page.isVisible('#preview'), true);
    await answered(COFFEE);
    await drop(photo('chelsea.png'));
    await answered(CAT);
    assert.equal(await page.isVisible('[role=alert]'), false);
  });

  test('a broken model is refused in words, and the page goes on', compared, async () => {
    await open('cpu');
    const broken = join(folder, 'broken.safetensors');
    const whole = await readFile(photo('bvlc_googlenet.safetensors'));
    await writeFile(broken, whole.subarray(0, 100_000));
    await drop(broken);
    await complaint(/not a readable safetensors file/i);
    await drop(photo('chelsea.png'));
    await answered(CAT);
  });

  test('a dropped model is taken', compared, async () => {
    await open('cpu');
    const served = await page.$$eval('#model option', (all) => all.length);
    await drop(photo('bvlc_googlenet.safetensors'));
    await page.waitForFunction((served) => document.querySelectorAll('#model option').length === served + 1, served);
    await drop(photo('chelsea.png'));
    await answered(CAT);
  });

  test('a dropped file of another framework goes to the importers', compared, async () => {
    await open('cpu');
    await drop(join(reference, 'keras/googlenet_keras3.weights.h5'));
    // It does not say how its pictures were prepared, and nothing is guessed.
    await complaint(/cannot import this file.*mean of its training set/i);
    await drop(photo('chelsea.png'));
    await answered(CAT);
  });

  test('the backend can be changed, and the picture is looked at again', compared, async () => {
    await open('auto');
    // The adapter is software: the CPU is the faster choice, and the page says so.
    assert.equal(await page.getAttribute('#facts', 'data-backend'), 'cpu');
    await drop(photo('coffee.png'));
    await answered(COFFEE);
    await page.getByRole('radio', { name: 'GPU' }).check();
    await page.waitForSelector('#facts[data-backend=gpu]', { timeout: 120_000 });
    await page.waitForSelector('.answer[aria-busy=false]', { timeout: 300_000 });
    await answered(COFFEE);
    assert.deepEqual(faults, []);
  });

  test('without a model the page says how to get one, and takes a dropped one', compared, async () => {
    await page.route('**/models/index.json', (route) => route.fulfill({ json: { models: [] } }));
    await page.goto(`${server.url}/?backend=cpu`);
    await page.waitForSelector('#no-model:not([hidden])');
    assert.match(await page.textContent('#no-model'), /Drop a GoogLeNet/);
    await drop(photo('bvlc_googlenet.safetensors'));
    await page.waitForSelector('#facts[data-backend=cpu]', { timeout: 120_000 });
    assert.equal(await page.isVisible('#no-model'), false);
  });
});

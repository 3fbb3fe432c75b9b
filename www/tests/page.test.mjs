// The page as a person uses it, in Chromium.

import assert from 'node:assert/strict';
import { readFile, writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { compared, launchChromium, photo, serve } from './support.mjs';

const CAT = 'Egyptian cat';
const COFFEE = 'espresso';

describe('the page', { ...compared, concurrency: false }, () => {
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
  const open = async (backend) => {
    await page.goto(`${server.url}/?backend=${backend}`);
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
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.dataset.sample || document.activeElement?.value));
    }
    assert.deepEqual(reached, ['file', 'samples/cat.jpg', 'samples/coffee.jpg', 'samples/rocket.jpg', 'cpu']);
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
    await drop(photo('bvlc_googlenet.safetensors'));
    await page.waitForFunction(() => document.querySelectorAll('#model option').length === 2);
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

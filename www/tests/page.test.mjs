// The page as a user sees it, in Chromium.

import assert from 'node:assert/strict';
import { readFile, writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { anew, answered, complaint, compared, drop, newPage, photo, reference, sample, setting, violations, visit } from './support.mjs';

const CAT = 'Egyptian cat';
const COFFEE = 'espresso';
// The samples that are offered with each model: those that show one of its classes.
const BUNDLED = ['cat', 'dog', 'horse', 'bird'];
const IMAGENET = ['cat', 'dog', 'coffee', 'rocket'];

describe('the page', { concurrency: false }, () => {
  const here = setting();
  let page, folder;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'googlenet-'));
  });
  after(() => rm(folder, { recursive: true }));
  beforeEach(async () => {
    await page?.context().close();
    page = await newPage(here.browser, { permissions: ['clipboard-read', 'clipboard-write'] });
  });

  /** Opens the page and waits for the network. */
  const open = (backend, model = 'imagenet') => visit(page, `${here.server.url}/?backend=${backend}&model=${model}`);
  /** Returns the samples that are visible, and those that can be chosen as a second picture. */
  const offered = async () => {
    const name = (address) => address.replace(/^samples\/|\.jpg$/g, '');
    const buttons = await page.$$eval('[data-sample]', (all) => all.filter((one) => one.checkVisibility()).map((one) => one.dataset.sample));
    const options = await page.$$eval('#second-sample option', (all) => all.filter((one) => !one.disabled && !one.hidden).map((one) => one.value));
    assert.deepEqual(options, ['', ...buttons]);
    return buttons.map(name);
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
    test(`a dropped photograph is classified on the ${backend}`, compared, async (t) => {
      await open(backend);
      assert.equal(await page.getAttribute('#facts', 'data-backend'), backend);
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await drop(page, photo('chelsea.png'));
      await answered(page, CAT, 300_000);
      await chelsea();
      t.diagnostic(`${await page.textContent('#facts div')}; ${await page.textContent('#time')}`);
      assert.deepEqual(page.faults, []);
    });
  }

  // ways.test.mjs classifies them on the GPU.
  test('the bundled model classifies the samples', async (t) => {
    const asked = [];
    page.on('request', (request) => request.url().includes('/models/') && asked.push(request.url().replace(/.*\//, '')));
    await page.goto(`${here.server.url}/?backend=cpu`);
    await page.waitForSelector('#facts[data-backend=cpu]', { timeout: 120_000 });
    // The first model is the bundled one. Its auxiliary heads are not downloaded, since the page does not show them.
    assert.deepEqual([...new Set(asked)], ['index.json', 'cifar10-noheads.safetensors']);
    assert.match(await page.textContent('#knows'), /knows only airplane, automobile, .* ship and truck\.$/);
    assert.deepEqual(await offered(), BUNDLED);
    for (const name of BUNDLED) {
      await anew(page, () => page.click(`[data-sample="samples/${name}.jpg"]`));
      const [label, share] = await page.$eval('#top li', (li) => ['.name', '.share'].map((c) => li.querySelector(c).textContent));
      t.diagnostic(`${name}: ${label}, ${share}`);
      assert.equal(label, name);
      assert.ok(parseFloat(share) > 70, `${name}: ${share}`);
      assert.equal(await page.isVisible('#unsure'), false);
    }
    // The model has no class for a rocket.
    await anew(page, () => drop(page, sample('rocket.jpg')));
    assert.equal(await page.isVisible('#unsure'), parseFloat(await page.textContent('#top .share')) < 40);
    assert.deepEqual(page.faults, []);
  });

  test('a photograph can be picked, pasted, and taken from the samples', compared, async () => {
    await open('cpu');
    await page.setInputFiles('#file', photo('coffee.png'));
    await answered(page, COFFEE);

    const png = [...(await readFile(photo('chelsea.png')))];
    await page.evaluate(async (bytes) => {
      const blob = new Blob([new Uint8Array(bytes)], { type: 'image/png' });
      await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
    }, png);
    await page.keyboard.press('Control+V');
    await answered(page, CAT);
    await chelsea();

    await page.getByRole('button', { name: 'coffee' }).click();
    await answered(page, COFFEE);
    assert.deepEqual(page.faults, []);
  });

  test('everything can be reached and used from the keyboard', compared, async () => {
    await open('cpu');
    const reached = [];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.dataset.sample || document.activeElement?.value));
    }
    const samples = IMAGENET.map((name) => `samples/${name}.jpg`);
    assert.deepEqual(reached, ['theme', 'show-keys', 'file', ...samples, 'paste', 'webcam', 'folder', 'address', 'cpu']);
    assert.deepEqual(await offered(), IMAGENET);
    await page.focus('[data-sample="samples/cat.jpg"]');
    await page.keyboard.press('Enter');
    await answered(page, CAT);
  });

  test('a file that is no picture gives an error message, and the page continues', compared, async () => {
    await open('cpu');
    await drop(page, photo('coffee.png'));
    await answered(page, COFFEE);
    const text = join(folder, 'notes.jpg');
    await writeFile(text, 'This is no photograph.');
    await drop(page, text);
    assert.match(await complaint(page), /cannot be opened.*JPEG/);
    // The picture and the answer from before are still shown.
    assert.equal(await page.isVisible('#preview'), true);
    await answered(page, COFFEE);
    await drop(page, photo('chelsea.png'));
    await answered(page, CAT);
    assert.equal(await page.isVisible('[role=alert]'), false);
  });

  test('a broken model gives an error message, and the page continues', compared, async () => {
    await open('cpu');
    const broken = join(folder, 'broken.safetensors');
    const whole = await readFile(photo('bvlc_googlenet.safetensors'));
    await writeFile(broken, whole.subarray(0, 100_000));
    await drop(page, broken);
    assert.match(await complaint(page), /not a readable safetensors file/i);
    await drop(page, photo('chelsea.png'));
    await answered(page, CAT);
  });

  test('a dropped model is loaded', compared, async () => {
    await open('cpu');
    const served = await page.$$eval('#model option', (all) => all.length);
    await drop(page, photo('bvlc_googlenet.safetensors'));
    await page.waitForFunction((served) => document.querySelectorAll('#model option').length === served + 1, served);
    await drop(page, photo('chelsea.png'));
    await answered(page, CAT);
  });

  test('a dropped file of another framework goes to the importers', compared, async () => {
    await open('cpu');
    await drop(page, join(reference, 'keras/googlenet_keras3.weights.h5'));
    // The file does not state its preprocessing, and nothing is guessed.
    assert.match(await complaint(page), /another framework wrote googlenet_keras3.*does not say how pictures were prepared/i);
    await drop(page, photo('chelsea.png'));
    await answered(page, CAT);
    assert.equal(await page.isVisible('#prepare'), false, 'another file, another matter');

    // The user enters the preprocessing.
    await drop(page, join(reference, 'keras/googlenet_keras3.weights.h5'));
    await page.selectOption('#prepare-how', 'mean');
    await page.fill('#prepare-mean', '1, 2');
    await page.click('#prepare button');
    assert.equal(await page.isVisible('#prepare'), true, 'two numbers are no mean');
    await page.fill('#prepare-mean', '1, 2, 3');
    const names = Array.from({ length: 1000 }, (_, i) => `kind ${i}`).join('\n');
    await page.setInputFiles('#prepare-labels', { name: 'names.txt', mimeType: 'text/plain', buffer: Buffer.from(names) });
    assert.deepEqual(await violations(page, '#alert'), []);
    await page.click('#prepare button');
    await page.waitForFunction(() => /^kind \d+$/.test(document.querySelector('#top .name')?.firstChild.textContent), undefined, { timeout: 120_000 });
    assert.equal(await page.isVisible('#alert'), false);
    assert.equal(await page.$eval('#model', (model) => model.selectedOptions[0].textContent), 'googlenet_keras3.weights.h5');
    assert.deepEqual(await offered(), [], 'no sample shows a kind 7');
    assert.deepEqual(page.faults, []);
  });

  test('the backend can be changed, and the picture is classified again', compared, async () => {
    await open('auto');
    // The adapter is software: the CPU is the faster choice, and the page says so.
    assert.equal(await page.getAttribute('#facts', 'data-backend'), 'cpu');
    await drop(page, photo('coffee.png'));
    await answered(page, COFFEE);
    await page.getByRole('radio', { name: 'GPU' }).check();
    await page.waitForSelector('#facts[data-backend=gpu]', { timeout: 120_000 });
    await page.waitForSelector('.answer[aria-busy=false]', { timeout: 300_000 });
    await answered(page, COFFEE);
    assert.deepEqual(page.faults, []);
  });

  test('without a model the page says how to get one, and loads a dropped one', compared, async () => {
    await page.route('**/models/index.json', (route) => route.fulfill({ json: { models: [] } }));
    await page.goto(`${here.server.url}/?backend=cpu`);
    await page.waitForSelector('#no-model:not([hidden])');
    assert.match(await page.textContent('#no-model'), /Drop a GoogLeNet/);
    await drop(page, photo('bvlc_googlenet.safetensors'));
    await page.waitForSelector('#facts[data-backend=cpu]', { timeout: 120_000 });
    assert.equal(await page.isVisible('#no-model'), false);
  });
});

// The section "Inside the network" with the bundled model, in each browser engine.

import assert from 'node:assert/strict';
import { afterEach, before, describe, test } from 'node:test';
import { ENGINES } from './engines.mjs';
import { downloaded, newPage, setting, settled, violations, visit, walkTabs } from './support.mjs';

for (const { name: engine, launch, backends, skip } of ENGINES) describe(`inside the network, in ${engine}`, { concurrency: false, skip }, () => {
  const here = setting(launch);
  let page;

  /** Opens a link in a page of its own, and waits until everything is drawn. */
  const open = async (hash, { backend = 'cpu', ...options } = {}) => {
    await page?.context().close();
    page = await newPage(here.browser, options);
    await visit(page, `${here.server.url}/?backend=${backend}#${hash}`);
    await settled(page);
  };
  const probabilities = () =>
    page.$$eval('#top li', (all) => Object.fromEntries(all.map((li) => [li.querySelector('.name').firstChild.textContent, parseFloat(li.querySelector('.share').textContent)])));
  /** Returns the pixels of the first sheet as a text. */
  const pixels = () => page.$eval('#lanes canvas', (canvas) => canvas.toDataURL());
  /** Returns the pixels of the map's canvases as texts. */
  const thumbs = () => page.$$eval('#map canvas', (all) => all.map((canvas) => canvas.toDataURL()));
  const changed = () => page.waitForFunction(() => document.querySelector('#changed').textContent !== '', undefined, { timeout: 300_000 });

  for (const backend of backends) {
    describe(`on the ${backend}`, { concurrency: false }, () => {
      before(() => open('picture=samples/cat.jpg', { backend }));
      afterEach(() => assert.deepEqual(page.faults, []));

      test('four branches, and the answer without one of them', async () => {
        assert.equal(await page.getAttribute('#facts', 'data-backend'), backend);
        assert.deepEqual(await page.$$eval('#lanes figcaption b', (all) => all.map((b) => b.textContent)), ['1x1', '3x3', '5x5', 'pool_proj']);
        assert.equal(await page.locator('#map .module').count(), 9);
        const [before, sheet, map] = [await probabilities(), await pixels(), await thumbs()];
        await page.uncheck('#on-1x1');
        await changed();
        await settled(page);
        const without = await probabilities();
        assert.notDeepEqual(without, before);
        assert.ok(Math.abs((without.cat ?? 0) - before.cat) > 1, 'the cat is no longer as likely');
        assert.equal(await pixels(), sheet, 'a branch that is off stays visible');
        assert.notDeepEqual(await thumbs(), map, 'the map follows');
        await page.click('#restore');
        await page.waitForFunction(() => document.querySelector('#changed').textContent === '', undefined, { timeout: 60_000 });
        await settled(page);
        assert.deepEqual(await probabilities(), before);
        assert.deepEqual(await thumbs(), map);
      });

      test('only the part of the map that a switch changes is drawn again', async () => {
        const modules = ['inception_3a', 'inception_5b'];
        const canvas = (at) => `#map li:has([data-at="${at}"]) canvas`;
        const blank = (at) => page.$eval(canvas(at), (one) => one.getContext('2d').getImageData(0, 0, 1, 1).data[3] === 0);
        for (const at of modules) await page.$eval(canvas(at), (one) => one.getContext('2d').clearRect(0, 0, one.width, one.height));
        assert.deepEqual([await blank(modules[0]), await blank(modules[1])], [true, true]);
        await page.uncheck('#map [data-branch="inception_5b/1x1"]');
        await changed();
        await settled(page);
        assert.deepEqual([await blank(modules[0]), await blank(modules[1])], [true, false]);
        await page.click('#restore');
        await settled(page);
        // Another picture changes every canvas.
        await page.click('[data-sample="samples/cat.jpg"]');
        await page.waitForFunction((canvas) => document.querySelector(canvas).getContext('2d').getImageData(0, 0, 1, 1).data[3] > 0, canvas(modules[0]), { timeout: 60_000 });
        await settled(page);
      });

      test('contributions add up to the score', async () => {
        const sums = await page.$$eval('#sums .number', (all) => all.map((n) => parseFloat(n.textContent.replace('\u2212', '-'))));
        const score = sums.pop();
        assert.equal(sums.length, 5);
        assert.ok(Math.abs(sums.reduce((a, b) => a + b, 0) - score) < 0.05, `${sums} make ${score}`);
      });

      test('what is saved is what the network has', async () => {
        const { name, bytes } = await downloaded(page, '#save-npy');
        assert.equal(name, 'inception_3a-1x1.npy');
        assert.equal(bytes.subarray(1, 6).toString(), 'NUMPY');
        const length = bytes.readUInt16LE(8);
        assert.match(bytes.subarray(10, 10 + length).toString(), /'<f4'.*\(28, 28, 64\)/);
        assert.equal((10 + length) % 64, 0);
        const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset + 10 + length));
        assert.equal(values.length, 28 * 28 * 64);
        const most = values.reduce((most, value, i) => (i % 64 === 0 ? Math.max(most, value) : most), 0);
        assert.match(await page.textContent('#tile-facts'), new RegExp(`greatest ${most.toFixed(3)}`));
        for (const button of ['#save-png', '#save-tile', '#save-heat']) {
          const png = await downloaded(page, button);
          assert.equal(png.bytes.subarray(1, 4).toString(), 'PNG');
        }
        await page.click('#tab-all-layers');
        const answer = JSON.parse((await downloaded(page, '#save-answer')).bytes);
        assert.equal(answer.top[0].label, 'cat');
        assert.ok(Math.abs(answer.top[0].probability * 100 - (await probabilities()).cat) <= 0.05, 'it is what the page shows');
      });

      test('the tables: time, cost of the classic example, every layer, branches switched off', async () => {
        await page.click('#tab-costs');
        const row = await page.locator('#cost tbody tr', { hasText: 'inception_3a/5x5' }).innerText();
        assert.match(row, /120,422,400\s+12,443,648/);
        await page.click('#tab-all-layers');
        assert.match(await page.innerText('#layers'), /inception_5b\/pool_proj/);
        await page.click('#tab-times');
        await page.click('#measure');
        await page.waitForFunction(() => document.querySelectorAll('#time-table tbody tr').length > 40, undefined, { timeout: 60_000 });
        const shares = await page.$$eval('#time-table td.bar', (all) => all.map((td) => parseFloat(td.textContent)));
        assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 100) < 5);
        assert.ok((await page.locator('.flame .block').count()) >= 10);
        await page.click('#tab-ablation');
        await page.click('#matrix-run');
        // The software adapter has time only for a few cells.
        const cells = engine === 'Chromium' && backend === 'gpu' ? 2 : 36;
        await page.waitForFunction((cells) => document.querySelectorAll('#matrix td').length >= cells, cells, { timeout: 120_000 });
        assert.ok((await page.locator('#matrix td').allInnerTexts()).some((text) => Math.abs(parseFloat(text.slice(1))) > 1));
      });

      test('a picture that comes during the ablation is answered by the whole network', async () => {
        const look = async (name) => {
          await page.click(`[data-sample="samples/${name}.jpg"]`);
          await page.waitForFunction((name) => location.hash.includes(`${name}.jpg`), name, { timeout: 120_000 });
          await settled(page);
          return page.$eval('#top li', (li) => li.innerText);
        };
        const dog = await look('dog');
        assert.notEqual(await look('cat'), dog);
        await page.click('#tab-ablation');
        await page.click('#matrix-run');
        await page.waitForFunction(() => document.querySelectorAll('#matrix td').length >= 1, undefined, { timeout: 60_000 });
        assert.equal(await look('dog'), dog);
        await look('cat');
      });

      test('tiles change with the picture, and each module has its own', async () => {
        const cat = await pixels();
        await page.click('#map [data-at="inception_4c"]');
        await page.waitForFunction((cat) => document.querySelector('#lanes canvas').toDataURL() !== cat, cat, { timeout: 60_000 });
        await settled(page);
        const deeper = await pixels();
        await page.click('[data-sample="samples/dog.jpg"]');
        await page.waitForFunction(() => location.hash.includes('dog'), undefined, { timeout: 60_000 });
        await settled(page);
        assert.notEqual(await pixels(), deeper);
        await page.click('#map [data-at="inception_3a"]');
        await page.waitForFunction(() => document.querySelector('#inside-at').textContent === 'Module 3a');
        await settled(page);
        assert.notEqual(await pixels(), cat);
      });

      test('a link opens the same view', async () => {
        await open('at=inception_4b&class=3&gain=inception_4b/3x3:0.5&picture=samples/cat.jpg', { backend });
        await changed();
        await settled(page);
        assert.equal(await page.textContent('#inside-at'), 'Module 4b');
        assert.equal(await page.inputValue('#gain-3x3'), '0.5');
        const state = new URLSearchParams(new URL(await page.url()).hash.slice(1));
        assert.equal(state.get('at'), 'inception_4b');
        assert.deepEqual(state.getAll('gain'), ['inception_4b/3x3:0.5']);
      });
    });
  }

  test('invalid values in a link are ignored', async () => {
    await open('at=nothing&class=900&gain=inception_9z/1x1:0&picture=samples/cat.jpg');
    assert.equal(await page.textContent('#inside-at'), 'Module 3a');
    assert.equal(await page.isVisible('[role=alert]'), false);
    assert.deepEqual(page.faults, []);
  });
});

describe('the page and its surroundings, in Chromium', { concurrency: false }, () => {
  const here = setting();
  let page;

  test('nothing is asked of any other origin', async () => {
    page = await newPage(here.browser);
    const strangers = [];
    page.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(here.server.url) && !/^(blob|data):/.test(url)) strangers.push(url);
    });
    await page.goto(`${here.server.url}/?backend=cpu#picture=samples/cat.jpg`);
    await settled(page);
    assert.deepEqual(strangers, []);
  });

  test('axe finds nothing, in the light and in the dark, on a desktop and on a phone', async () => {
    page ??= await newPage(here.browser);
    await visit(page, `${here.server.url}/?backend=cpu#picture=samples/cat.jpg`);
    await settled(page);
    let filled = false;
    for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
      await page.setViewportSize(viewport);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        const paper = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
        assert.equal(paper, colorScheme === 'light' ? 'rgb(246, 245, 241)' : 'rgb(21, 21, 19)');
        // The rest of the page is the same for each tab, and is checked with the first one.
        const look = async (panel, index) => assert.deepEqual([panel, ...(await violations(page, index === 0 ? 'html' : `#${panel}`))], [panel]);
        await walkTabs(page, look, { filled });
        filled = true;
      }
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
    }
  });
});

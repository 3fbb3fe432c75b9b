// What the page shows of the inside of the network, with the bundled model.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { downloaded, newPage, setting, settled, violations, visit, walkTabs } from './support.mjs';

describe('inside the network', { concurrency: false }, () => {
  const here = setting();
  let page;

  /** Opens a link in a page of its own, and waits until all is drawn. */
  const open = async (hash, { backend = 'cpu', ...options } = {}) => {
    await page?.context().close();
    page = await newPage(here.browser, options);
    await visit(page, `${here.server.url}/?backend=${backend}#${hash}`);
    await settled(page);
  };
  const probabilities = () =>
    page.$$eval('#top li', (all) => Object.fromEntries(all.map((li) => [li.querySelector('.name').firstChild.textContent, parseFloat(li.querySelector('.share').textContent)])));
  /** The pixels of the first sheet, as one text. */
  const pixels = () => page.$eval('#lanes canvas', (canvas) => canvas.toDataURL());
  const changed = () => page.waitForFunction(() => document.querySelector('#changed').textContent !== '', undefined, { timeout: 300_000 });

  for (const backend of ['cpu', 'gpu']) {
    test(`four branches, and the answer without one of them, on the ${backend}`, async () => {
      await open('picture=samples/cat.jpg', { backend });
      assert.deepEqual(await page.$$eval('#lanes figcaption b', (all) => all.map((b) => b.textContent)), ['1x1', '3x3', '5x5', 'pool_proj']);
      assert.equal(await page.locator('#map .module').count(), 9);
      const [before, sheet] = [await probabilities(), await pixels()];
      await page.uncheck('#on-1x1');
      await changed();
      await settled(page);
      const without = await probabilities();
      assert.notDeepEqual(without, before);
      assert.ok(Math.abs((without.cat ?? 0) - before.cat) > 1, 'the cat is no longer as likely');
      assert.equal(await pixels(), sheet, 'a branch that is off stays visible');
      await page.click('#restore');
      await page.waitForFunction(() => document.querySelector('#changed').textContent === '');
      await settled(page);
      assert.deepEqual(await probabilities(), before);
      assert.deepEqual(page.faults, []);
    });
  }

  test('tiles change with the picture, and each module has its own', async () => {
    await open('picture=samples/cat.jpg');
    const cat = await pixels();
    await page.click('#map [data-at="inception_4c"]');
    await page.waitForFunction((cat) => document.querySelector('#lanes canvas').toDataURL() !== cat, cat);
    await open('picture=samples/rocket.jpg');
    assert.notEqual(await pixels(), cat);
    assert.deepEqual(page.faults, []);
  });

  test('a link opens the same view', async () => {
    await open('at=inception_4b&class=3&gain=inception_4b/3x3:0.5&picture=samples/cat.jpg');
    await changed();
    await settled(page);
    assert.equal(await page.textContent('#inside-at'), 'Module 4b');
    assert.equal(await page.inputValue('#gain-3x3'), '0.5');
    const state = new URLSearchParams(new URL(page.url()).hash.slice(1));
    assert.equal(state.get('at'), 'inception_4b');
    assert.deepEqual(state.getAll('gain'), ['inception_4b/3x3:0.5']);
    await open('at=nothing&class=900&gain=inception_9z/1x1:0&picture=samples/cat.jpg');
    assert.equal(await page.textContent('#inside-at'), 'Module 3a', 'nonsense in a link does no harm');
    assert.equal(await page.isVisible('[role=alert]'), false);
    assert.deepEqual(page.faults, []);
  });

  test('contributions add up to the score', async () => {
    await open('picture=samples/cat.jpg');
    const sums = await page.$$eval('#sums .number', (all) => all.map((n) => parseFloat(n.textContent.replace('\u2212', '-'))));
    const score = sums.pop();
    assert.equal(sums.length, 5);
    assert.ok(Math.abs(sums.reduce((a, b) => a + b, 0) - score) < 0.05, `${sums} make ${score}`);
  });

  test('the tables: time, cost of the classic example, every layer, every branch switched off', async () => {
    await open('picture=samples/cat.jpg');
    await page.click('#tab-costs');
    const row = await page.locator('#cost tbody tr', { hasText: 'inception_3a/5x5' }).innerText();
    assert.match(row, /120,422,400\s+12,443,648/);
    await page.click('#tab-all-layers');
    assert.match(await page.innerText('#layers'), /inception_5b\/pool_proj/);
    await page.click('#tab-times');
    await page.click('#measure');
    await page.waitForFunction(() => document.querySelectorAll('#time-table tbody tr').length > 50, undefined, { timeout: 60_000 });
    const shares = await page.$$eval('#time-table td.bar', (all) => all.map((td) => parseFloat(td.textContent)));
    assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 100) < 5);
    assert.ok((await page.locator('.flame .block').count()) >= 10);
    await page.click('#tab-ablation');
    await page.click('#matrix-run');
    await page.waitForFunction(() => document.querySelectorAll('#matrix td').length === 36, undefined, { timeout: 120_000 });
    assert.ok((await page.locator('#matrix td').allInnerTexts()).some((text) => Math.abs(parseFloat(text.slice(1))) > 1));
    assert.deepEqual(page.faults, []);
  });

  test('what is saved is what the network has', async () => {
    await open('at=inception_3a&picture=samples/cat.jpg');
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
    const png = await downloaded(page, '#save-png');
    assert.equal(png.bytes.subarray(1, 4).toString(), 'PNG');
    await page.click('#tab-all-layers');
    const answer = JSON.parse((await downloaded(page, '#save-answer')).bytes);
    assert.equal(answer.top[0].label, 'cat');
  });

  test('nothing is asked of any other origin', async () => {
    await page?.context().close();
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

  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing, in the ${colorScheme}`, async () => {
      for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
        await open('picture=samples/cat.jpg', { colorScheme, viewport });
        await walkTabs(page, async (tab) => assert.deepEqual([tab, ...(await violations(page))], [tab]));
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
      }
    });
  }
});

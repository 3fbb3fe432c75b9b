// Every kind of picture gives the right answer or an error message, and the page continues to work.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { ENGINES } from './engines.mjs';
import { cases } from './pictures.mjs';
import { newPage, setting, visit } from './support.mjs';

for (const { name: engine, launch, skip } of ENGINES) describe(`bad pictures in ${engine}`, { concurrency: false, skip }, () => {
  const here = setting(launch);
  let page;

  before(async () => {
    page = await newPage(here.browser);
    await visit(page, `${here.server.url}/?backend=cpu`);
  });

  /** Gives the page a file; returns the class of the answer, or the error message. */
  const give = async (name, buffer) => {
    await page.evaluate(() => {
      document.querySelector('#time').textContent = '';
      document.querySelector('#alert-close').click();
    });
    await page.setInputFiles('#file', { name, mimeType: name.endsWith('.svg') ? 'image/svg+xml' : 'application/octet-stream', buffer });
    await page.waitForFunction(() => document.querySelector('#time').textContent || !document.querySelector('#alert').hidden, undefined, { timeout: 60_000 });
    const refused = await page.isVisible('#alert');
    // After an error the network classifies the picture before again, and that answer must not be taken for the next
    // one.
    await page.waitForSelector('.answer[aria-busy=false]', { timeout: 60_000 });
    return refused ? { words: await page.textContent('#alert-text') } : { answer: await page.$eval('#top .name', (name) => name.firstChild.textContent) };
  };

  test('each case', { timeout: 600_000 }, async (t) => {
    const draw = async () => {
      const image = await createImageBitmap(await (await fetch('samples/cat.jpg')).blob());
      const canvas = new OffscreenCanvas(224, 224);
      const side = Math.min(image.width, image.height);
      const context = canvas.getContext('2d');
      context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, 224, 224);
      return [...context.getImageData(0, 0, 224, 224).data];
    };
    const photo = Uint8ClampedArray.from(await page.evaluate(draw));
    const encode = async (rgba, width, height, type) => {
      const bytes = await page.evaluate(async ({ rgba, width, height, type }) => {
        const canvas = new OffscreenCanvas(width, height);
        canvas.getContext('2d').putImageData(new ImageData(Uint8ClampedArray.from(rgba), width, height), 0, 0);
        return [...new Uint8Array(await (await canvas.convertToBlob({ type, quality: 0.92 })).arrayBuffer())];
      }, { rgba: [...rgba], width, height, type });
      return Buffer.from(bytes);
    };
    const all = await cases(photo, encode);
    assert.ok(all.length >= 60, `${all.length} cases`);
    const wrong = [];
    let refusals = 0;
    for (const { name, bytes, expected } of all) {
      const { answer, words } = await give(name, bytes);
      if (words !== undefined) refusals++;
      const right = words === undefined ? 'answer' in expected && (expected.answer ?? answer) === answer : expected.words?.test(words);
      if (!right) wrong.push(`${name}: ${answer ?? words}`);
    }
    assert.deepEqual(wrong, []);
    assert.equal((await give('the last.png', all.find(({ name }) => name === 'rgb8.png').bytes)).answer, 'cat', 'the page goes on');
    assert.deepEqual(page.faults, []);
    t.diagnostic(`${all.length} pictures: ${refusals} refused in words, the others answered`);
  });
});

// The element <googlenet-classifier> as a user and a page use it.

import assert from 'node:assert/strict';
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { launchChromium } from '../support.mjs';
import { LABEL, PHOTO, at, project, serve, visit } from './support.mjs';

const SETTING = { timeout: 120_000 };
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";
const DOG = PHOTO.replace('cat.jpg', 'dog.jpg');

describe('the element', { concurrency: false }, () => {
  let browser, remove, site, page, faults;

  before(async () => {
    const own = await project({
      files: {
        'index.html': '<!doctype html><html lang="en"><meta charset="utf-8"><title>Test</title><link rel="stylesheet" href="page.css"><script type="module" src="page.js"></script><googlenet-classifier lazy></googlenet-classifier></html>',
        'page.css': 'googlenet-classifier::part(name) { letter-spacing: 3px; } googlenet-classifier { --googlenet-accent: rgb(1, 2, 3); }',
        'page.js': `
          import './node_modules/googlenet-web/dist/element.js';
          window.element = document.querySelector('googlenet-classifier');
          window.heard = [];
          for (const type of ['classify', 'progress', 'error']) document.documentElement.addEventListener(type, ({ detail }) => heard.push([type, detail]), type !== 'classify');
        `,
      },
    });
    remove = own.remove;
    for (const path of [PHOTO, DOG]) await cp(path, join(own.folder, path.replace(/.*\//, '')));
    site = await serve(own.folder, { headers: { 'content-security-policy': POLICY } });
    browser = await launchChromium();
    ({ page, faults } = await visit(browser, site.url));
    await page.waitForFunction(() => 'heard' in window);
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await remove?.();
  });

  const named = (label) => page.waitForFunction((label) => element.shadowRoot.querySelector('.name')?.textContent === label, label, { timeout: 60_000 });
  const heard = (type) => page.evaluate((type) => heard.filter(([kind]) => kind === type).map(([, detail]) => detail), type);

  test('a chosen picture is shown and classified, and the page gets an event', SETTING, async () => {
    assert.deepEqual(await heard('progress'), [], 'lazy');
    await page.setInputFiles('input[type=file]', PHOTO);
    await named(LABEL);
    const [answer] = await heard('classify');
    assert.equal(answer.top[0].label, LABEL);
    const phases = new Set((await heard('progress')).map(({ phase }) => phase));
    assert.deepEqual([...phases], ['download', 'compile', 'upload', 'ready']);
    assert.match(await page.evaluate(() => element.shadowRoot.querySelector('[role=status]').textContent), /^cat, \d\d\.\d%$/);
    assert.match(await page.textContent('.status'), /^Named in \d.* knows only airplane, .* and truck\.$/);
    assert.equal(await page.isVisible('.picture'), true);
    assert.deepEqual(faults(), []);
  });

  test('every part can be reached from the keyboard', SETTING, async () => {
    // Playwright answers file choosers from here on. It tells the browser so
    // without waiting, so this has to happen well before the key is pressed.
    const chooser = page.waitForEvent('filechooser');
    await page.bringToFront();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement === element && element.shadowRoot.activeElement.className.split(' ')[0]), 'drop');
    await page.keyboard.press('Enter');
    await (await chooser).setFiles(DOG);
    await page.waitForFunction(() => heard.filter(([type]) => type === 'classify').length === 2);
  });

  test('a dropped picture is classified', SETTING, async () => {
    const { x, y, width, height } = await page.locator('.drop').boundingBox();
    const devtools = await page.context().newCDPSession(page);
    const data = { items: [], files: [PHOTO], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await devtools.send('Input.dispatchDragEvent', { type, x: x + width / 2, y: y + height / 2, data });
    }
    await named(LABEL);
  });

  test('the picture of `src` is classified', SETTING, async () => {
    const before = (await heard('classify')).length;
    await page.evaluate(() => (element.src = 'dog.jpg'));
    await page.waitForFunction((before) => heard.filter(([type]) => type === 'classify').length > before, before);
    await page.evaluate(() => (element.src = 'cat.jpg'));
    await named(LABEL);
  });

  test('`inspect` shows the branches of a module', SETTING, async () => {
    assert.equal(await page.isVisible('.branches'), false);
    await page.evaluate(() => (element.inspect = true));
    await page.waitForSelector('.branches');
    const lanes = () => page.$$eval('.branches figure', (all) => all.map((figure) => [figure.querySelector('b').textContent, figure.querySelector('canvas').width]));
    // There are eight tiles of 28 pixels, with gaps of a pixel.
    assert.deepEqual(await lanes(), ['1x1', '3x3', '5x5', 'pool'].map((branch) => [branch, 8 * 29 - 1]));
    await page.selectOption('select', 'inception_5b');
    await page.waitForFunction(() => element.shadowRoot.querySelector('canvas.tiles').width === 8 * 8 - 1);
    await page.evaluate(() => (element.inspect = false));
    await page.waitForSelector('.branches', { state: 'hidden' });
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing wrong, ${colorScheme}`, SETTING, async () => {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(() => (element.inspect = true));
      await page.waitForSelector('.branches');
      // The policy forbids inline scripts, but not those of a browser's debugger.
      await page.evaluate(await readFile(at('node_modules/axe-core/axe.min.js'), 'utf8'));
      const { violations } = await page.evaluate(() => axe.run('googlenet-classifier'));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
      await page.evaluate(() => (element.inspect = false));
    });
  }

  test('a file that is no picture gives an error in the element, which continues', SETTING, async () => {
    await page.setInputFiles('input[type=file]', { name: 'notes.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no picture') });
    await page.waitForSelector('.status.bad');
    assert.match(await page.textContent('.status'), /cannot be opened.*JPEG/);
    assert.equal((await heard('error')).length, 1);
    await page.setInputFiles('input[type=file]', PHOTO);
    await page.waitForSelector('.status:not(.bad)');
    await named(LABEL);
  });

  test('a page can style it', SETTING, async () => {
    const style = (selector, property) => page.$eval(selector, (element, property) => getComputedStyle(element)[property], property);
    assert.equal(await style('.name', 'letterSpacing'), '3px');
    assert.equal(await style('.fill', 'backgroundColor'), 'rgb(1, 2, 3)');
  });

  test('removing the element from the page ends its worker', SETTING, async () => {
    assert.equal(page.workers().length, 1);
    await page.evaluate(() => element.remove());
    await page.waitForFunction(() => !element.isConnected);
    for (let tries = 0; tries < 50 && page.workers().length > 0; tries++) await page.waitForTimeout(50);
    assert.equal(page.workers().length, 0);
    assert.deepEqual(faults(), []);
  });
});

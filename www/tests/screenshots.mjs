// Takes a picture of every view of the page, on a desktop and on a phone, in the light and in the dark.
// Their folder is the only argument.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { argv } from 'node:process';
import { launchChromium, serve } from './support.mjs';

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const TABS = ['why', 'ablation', 'times', 'all-layers', 'costs', 'compare'];

const folder = argv[2];
await mkdir(folder, { recursive: true });
const server = await serve();
const browser = await launchChromium();
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: size === 'phone' ? 2 : 1, serviceWorkers: 'block' });
    const page = await context.newPage();
    const shoot = (view) => page.screenshot({ path: join(folder, `${view}-${size}-${colorScheme}.png`), fullPage: size === 'phone' });
    const settled = () => page.waitForSelector('#inside[aria-busy="false"]:not([hidden]) #sums .total', { state: 'attached', timeout: 120_000 });
    await page.goto(`${server.url}/?backend=cpu`);
    await page.waitForSelector('#facts[data-backend]', { timeout: 120_000 });
    await shoot('start');
    await page.click('[data-sample="samples/cat.jpg"]');
    await settled();
    await page.click('#map [data-at="inception_4c"]');
    await settled();
    for (const tab of TABS) {
      await page.click(`#tab-${tab}`);
      if (tab === 'ablation') {
        await page.click('#matrix-run');
        await page.waitForFunction(() => document.querySelectorAll('#matrix td').length === 36, undefined, { timeout: 120_000 });
      }
      if (tab === 'times') {
        await page.click('#measure');
        await page.waitForSelector('#time-table td');
      }
      if (tab === 'compare') {
        await page.selectOption('#second-sample', 'samples/rocket.jpg');
        await page.waitForFunction(() => document.querySelectorAll('#pair canvas').length === 8);
      }
      await settled();
      await shoot(tab);
    }
    await page.uncheck('#on-3x3');
    await page.waitForFunction(() => document.querySelector('#changed').textContent !== '');
    await settled();
    await page.click('#tab-why');
    await shoot('switched-off');
    await page.click('#show-keys');
    await shoot('keys');
    await context.close();
  }
}
await browser.close();
server.stop();

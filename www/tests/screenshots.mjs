// Takes a picture of every view of the page, on a desktop and on a phone, in the light and in the dark.
// Their folder is the only argument.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { argv } from 'node:process';
import { launchChromium, newPage, serve, settled, visit, walkTabs } from './support.mjs';

const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };

const folder = argv[2];
await mkdir(folder, { recursive: true });
const server = await serve();
const browser = await launchChromium();
for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ['light', 'dark']) {
    const page = await newPage(browser, { viewport, colorScheme, deviceScaleFactor: size === 'phone' ? 2 : 1, serviceWorkers: 'block' });
    const shoot = (view) => page.screenshot({ path: join(folder, `${view}-${size}-${colorScheme}.png`), fullPage: size === 'phone' });
    await visit(page, `${server.url}/?backend=cpu`);
    await shoot('start');
    await page.click('[data-sample="samples/cat.jpg"]');
    await settled(page);
    await page.click('#map [data-at="inception_4c"]');
    await settled(page);
    await walkTabs(page, shoot);
    await page.uncheck('#on-3x3');
    await page.waitForFunction(() => document.querySelector('#changed').textContent !== '');
    await settled(page);
    await page.click('#tab-why');
    await shoot('switched-off');
    await page.click('#show-keys');
    await shoot('keys');
    await page.context().close();
  }
}
await browser.close();
server.stop();

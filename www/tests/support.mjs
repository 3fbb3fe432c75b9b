// What the tests share: the server, the browsers, the reference data.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before } from 'node:test';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';

/** The folder of reference data, or undefined. */
export const reference = process.env.GOOGLENET_REFERENCE;

/** Options for a test that compares with reference data. */
export const compared = {
  timeout: 600_000,
  skip: reference ? false : 'skipped: GOOGLENET_REFERENCE is not set',
};

/** A photograph of the reference data. */
export const photo = (name) => join(reference, 'imagenet', name);

/** Serves the built page as `cargo xtask start` does. Gives its address and what ends it. */
export async function serve() {
  const args = ['start', '--no-build', '--port', '0'];
  const mount = (path, folder) => folder && existsSync(folder) && args.push('--mount', `${path}=${folder}`);
  mount('reference', reference);
  mount('tests', process.env.PAGE_TESTS);
  mount('cifar10', process.env.CIFAR10);
  mount('converted', process.env.KERAS_MODEL && join(process.env.KERAS_MODEL, '..'));
  const [program, ...before] = process.env.XTASK ? [process.env.XTASK] : ['cargo', 'xtask'];
  const server = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface(server.stdout)) {
    const url = /http:\/\/localhost:\d+/.exec(line)?.[0];
    if (url) return { url, stop: () => server.kill() };
  }
  throw new Error('the server did not start');
}

/**
 * The same site with other headers. `change` gets an answer's headers and address, and may give text to put
 * in front of the body.
 */
export async function disguise(origin, change) {
  const server = createServer(async ({ url }, response) => {
    const answer = await fetch(origin + url);
    const { connection, 'keep-alive': keep, 'content-length': length, ...headers } = Object.fromEntries(answer.headers);
    const before = change(headers, url) ?? '';
    response.writeHead(answer.status, headers);
    response.end(Buffer.concat([Buffer.from(before), Buffer.from(await answer.arrayBuffer())]));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://localhost:${server.address().port}`, stop };
}

/** Chromium with WebGPU on its software adapter. */
const CHROMIUM = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader',
    '--enable-features=Vulkan',
    '--ignore-gpu-blocklist',
    '--no-sandbox',
  ],
};

export function launchChromium(...further) {
  return chromium.launch({ ...CHROMIUM, args: [...CHROMIUM.args, ...further] });
}

/** The same for who measures its memory: nothing of what a page loads is kept for whoever may ask. */
export function launchQuietly(...further) {
  return puppeteer.launch({ ...CHROMIUM, args: [...CHROMIUM.args, ...further], protocolTimeout: 600_000, networkEnabled: false });
}

/** Firefox with WebGPU on whatever Vulkan adapter there is. */
export function launchFirefox() {
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    protocolTimeout: 600_000,
    extraPrefsFirefox: {
      'dom.webgpu.enabled': true,
      'dom.webgpu.workers.enabled': true,
      'gfx.webgpu.ignore-blocklist': true,
    },
  });
}

/** A server and a browser for the tests of the `describe` that this is called in, who find them in what it gives. */
export function setting(launch = launchChromium) {
  const here = { server: undefined, browser: undefined };
  before(async () => {
    here.server = await serve();
    here.browser = await launch();
  });
  after(async () => {
    await here.browser?.close();
    here.server?.stop();
  });
  return here;
}

/** A page in a context of its own; `faults` gets what nobody has caught, and what is told as an error. */
export async function newPage(browser, options = {}) {
  const page = await (await browser.newContext({ acceptDownloads: true, ...options })).newPage();
  // Other engines' have them.
  if (page.faults) return page;
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.faults.push(message.text()));
  return page;
}

/** Goes to an address of the page, and waits for the network. */
export async function visit(page, url) {
  await page.goto(url);
  await page.waitForSelector('#facts[data-backend]', { timeout: 120_000 });
}

/** Goes to the tests' own page, where their functions are in `window`. */
export async function visitTests(browser, url, functions) {
  const page = await browser.newPage();
  await page.goto(`${url}/tests/index.html`);
  await page.waitForFunction(`'${functions}' in window`);
  return page;
}

/** Waits until all is drawn. */
export function settled(page) {
  const drawn = () => document.querySelector('.answer[aria-busy="false"]') && document.querySelector('#inside[aria-busy="false"]:not([hidden]) #sums .total');
  return page.waitForFunction(drawn, undefined, { timeout: 300_000 });
}

/** Does what brings an answer, and waits until it stands there. */
export async function anew(page, how) {
  await page.evaluate(() => {
    document.querySelector('#time').textContent = '';
  });
  await how();
  await page.waitForFunction(() => document.querySelector('#time').textContent !== '', undefined, { timeout: 60_000 });
}

/** Waits until a class is the likeliest. */
export function answered(page, label, timeout = 60_000) {
  const first = (label) => document.querySelector('#top .name')?.firstChild?.textContent === label;
  return page.waitForFunction(first, label, { timeout });
}

/** Waits for a complaint; gives its words. */
export async function complaint(page) {
  await page.waitForSelector('[role=alert]:not([hidden])', { timeout: 60_000 });
  return page.textContent('#alert-text');
}

/** Drops a file or a folder from the disk on the window, as the browser itself hears of it. */
export async function drop(page, path) {
  const devtools = await page.context().newCDPSession(page);
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await devtools.send('Input.dispatchDragEvent', { type, x: 600, y: 300, data });
  }
}

/** Presses a button that saves; gives the file's name and bytes. */
export async function downloaded(page, button) {
  if (page.saved) return page.saved(button);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

/** A picture that the page offers. */
export const sample = (name) => new URL(`../public/samples/${name}`, import.meta.url).pathname;

/** The panels of the page's tabs, in the order of their buttons. */
export function tabPanels(page) {
  return page.$$eval('[role=tab]', (tabs) => tabs.map((tab) => tab.getAttribute('aria-controls')));
}

/** Fills a tab that stays empty until the user asks for its content, by the id of its panel. */
const FILL = {
  ablation: async (page) => {
    await page.click('#matrix-run');
    await page.waitForFunction(() => document.querySelectorAll('#matrix td').length === 36, undefined, { timeout: 120_000 });
  },
  times: async (page) => {
    await page.click('#measure');
    await page.waitForSelector('#time-table td');
  },
  compare: async (page) => {
    await page.selectOption('#second-sample', 'samples/dog.jpg');
    await page.waitForFunction(() => document.querySelectorAll('#pair canvas').length === 8, undefined, { timeout: 60_000 });
  },
};

/** Opens each tab, fills it unless it is `filled`, and calls back with the id of its panel and its index. */
export async function walkTabs(page, look, { filled = false } = {}) {
  for (const [index, panel] of (await tabPanels(page)).entries()) {
    await page.click(`[role=tab][aria-controls="${panel}"]`);
    if (!filled) await FILL[panel]?.(page);
    await settled(page);
    await look(panel, index);
  }
}

/** What axe-core finds wrong, with all of the page or with a part. */
export async function violations(page, part = 'html') {
  if (!(await page.evaluate(() => 'axe' in window))) {
    await page.evaluate(await readFile(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8'));
  }
  const { violations } = await page.evaluate((part) => axe.run(part), part);
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}

/** Whether this machine has nothing else to do: the same piece of work takes about as long each time. */
export function isSteady() {
  const work = () => {
    const since = performance.now();
    let sum = 0;
    for (let i = 0; i < 3_000_000; i++) sum = (sum * 31 + i) | 0;
    return performance.now() - since + (sum === 1 ? 1e-9 : 0);
  };
  for (let i = 0; i < 10; i++) work();
  const times = Array.from({ length: 100 }, work).sort((a, b) => a - b);
  return times[94] < 1.5 * times[5];
}

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

/** Returns the path of a photograph of the reference data. */
export const photo = (name) => join(reference, 'imagenet', name);

/** Serves the built page as `cargo xtask start` does. Returns its address and a function that stops it. */
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
 * Serves the same site with other headers. `change` gets the headers and the address of a response, and may return text
 * that is put in front of the body.
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

/** Starts a browser for measurements of memory: no responses are kept for the protocol. */
export function launchQuietly(...further) {
  return puppeteer.launch({ ...CHROMIUM, args: [...CHROMIUM.args, ...further], protocolTimeout: 600_000, networkEnabled: false });
}

/** Starts Firefox with WebGPU on the Vulkan adapter of this machine. */
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

/** Starts a server and a browser for the tests of the `describe` in which this is called. They are in the result. */
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

/** Opens a page in a context of its own; `faults` has its unhandled errors and its error messages. */
export async function newPage(browser, options = {}) {
  const page = await (await browser.newContext({ acceptDownloads: true, ...options })).newPage();
  // The wrapped pages of other engines have them already.
  if (page.faults) return page;
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.faults.push(message.text()));
  return page;
}

/** Opens an address of the page, and waits for the network. */
export async function visit(page, url) {
  await page.goto(url);
  await page.waitForSelector('#facts[data-backend]', { timeout: 120_000 });
}

/** Opens the tests' own page, whose functions are in `window`. */
export async function visitTests(browser, url, functions) {
  const page = await browser.newPage();
  await page.goto(`${url}/tests/index.html`);
  await page.waitForFunction(`'${functions}' in window`);
  return page;
}

/** Waits until everything is drawn. */
export function settled(page) {
  const drawn = () => document.querySelector('.answer[aria-busy="false"]') && document.querySelector('#inside[aria-busy="false"]:not([hidden]) #sums .total');
  return page.waitForFunction(drawn, undefined, { timeout: 300_000 });
}

/** Does something that leads to an answer, and waits for the answer. */
export async function anew(page, how) {
  await page.evaluate(() => {
    document.querySelector('#time').textContent = '';
  });
  await how();
  await page.waitForFunction(() => document.querySelector('#time').textContent !== '', undefined, { timeout: 60_000 });
}

/** Waits until a class is the most probable one. */
export function answered(page, label, timeout = 60_000) {
  const first = (label) => document.querySelector('#top .name')?.firstChild?.textContent === label;
  return page.waitForFunction(first, label, { timeout });
}

/** Waits for an error message and returns it. */
export async function complaint(page) {
  await page.waitForSelector('[role=alert]:not([hidden])', { timeout: 60_000 });
  return page.textContent('#alert-text');
}

/** Drops a file or a folder from the disk on the window, through the browser's own events. */
export async function drop(page, path) {
  const devtools = await page.context().newCDPSession(page);
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await devtools.send('Input.dispatchDragEvent', { type, x: 600, y: 300, data });
  }
}

/** Presses a button that saves a file; returns the file's name and bytes. */
export async function downloaded(page, button) {
  if (page.saved) return page.saved(button);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

/** Returns the path of a sample picture of the page. */
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

/** Returns the problems that axe-core finds in the page or in a part of it. */
export async function violations(page, part = 'html') {
  if (!(await page.evaluate(() => 'axe' in window))) {
    await page.evaluate(await readFile(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8'));
  }
  const { violations } = await page.evaluate((part) => axe.run(part), part);
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}

/** Says whether this machine has no other work: the same computation takes about as long each time. */
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

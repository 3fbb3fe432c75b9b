// The browser engines, and a page in each of them with as much of Playwright's interface as the tests use.

import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { launchChromium, launchFirefox } from './support.mjs';

const SIZE = { width: 1280, height: 800 };

/** The engines that Playwright drives directly, and those that it does not. Their GPU is a software adapter. */
export const ENGINES = [
  { name: 'Chromium', launch: launchChromium, backends: ['cpu', 'gpu'], skip: false },
  { name: 'Firefox', launch: firefox, backends: ['cpu', 'gpu'], skip: false },
  { name: 'WebKit', launch: webkit, backends: ['cpu'], skip: process.env.WEBKIT ? false : 'skipped: WEBKIT is not set' },
];

/** Starts Firefox through Puppeteer. */
async function firefox() {
  const browser = await launchFirefox();
  const newPage = async () => {
    const context = await browser.createBrowserContext();
    return puppets(await context.newPage(), () => context.close());
  };
  return { newContext: async () => ({ newPage }), close: () => browser.close() };
}

/** Wraps a tab of Puppeteer. */
export async function puppets(tab, close) {
  await tab.setViewport(SIZE);
  const page = new Page({
    goto: (url) => tab.goto(url),
    evaluate: (source) => tab.evaluate(source),
    press: (key) => tab.keyboard.press(key),
    move: (x, y) => tab.mouse.move(x, y),
    click: (x, y) => tab.mouse.click(x, y),
    close,
  });
  // Firefox reports pictures that it cannot decode, which is no fault of the page.
  const fault = (words) => words !== 'Image corrupt or truncated.' && page.faults.push(words);
  tab.on('pageerror', (error) => fault(error.message));
  tab.on('console', (message) => message.type() === 'error' && fault(message.text()));
  return page;
}

/** The keys that WebDriver has codes for (https://www.w3.org/TR/webdriver2/#keyboard-actions). */
const KEYS = { Tab: '\ue004', Enter: '\ue007', Escape: '\ue00c', ArrowLeft: '\ue012', ArrowUp: '\ue013', ArrowRight: '\ue014', ArrowDown: '\ue015', End: '\ue010' };

/** Makes a page record unhandled errors, which WebDriver does not report. */
function watch() {
  if (window.unhandled) return;
  window.unhandled = [];
  window.addEventListener('error', ({ message }) => message && unhandled.push(message));
  window.addEventListener('unhandledrejection', ({ reason }) => unhandled.push(String(reason)));
}

/** Starts WebKitGTK through its WebDriver, on a display of its own. It has one tab. */
async function webkit() {
  const port = await freePort();
  const driver = spawn('xvfb-run', ['-a', '-s', '-screen 0 1600x1200x24', process.env.WEBKIT, `--port=${port}`], { detached: true, stdio: 'ignore' });
  const ask = async (path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: body === undefined ? 'GET' : 'POST', body: JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  for (let tries = 0; !(await ask('/status').catch(() => undefined)); tries++) {
    if (tries > 100) throw new Error('the WebDriver does not answer');
    await sleep(100);
  }
  const { sessionId } = await ask('/session', { capabilities: { alwaysMatch: {} } });
  const tell = (command, body) => ask(`/session/${sessionId}/${command}`, body);
  await tell('timeouts', { script: 600_000 });
  const act = (type, actions) => tell('actions', { actions: [{ type, id: type, actions }] });
  const move = (x, y) => ({ type: 'pointerMove', x, y, duration: 0 });
  const press = { type: 'pointerDown', button: 0 };
  const release = { type: 'pointerUp', button: 0 };
  const tab = {
    goto: async (url) => {
      // A change of the hash alone would not load the page again.
      await tell('url', { url: 'about:blank' });
      await tell('url', { url });
    },
    evaluate: async (source) => {
      const script = `(${watch})(); const [done, faults] = [arguments[0], unhandled.splice(0)];
        (async () => (${source}))().then((value) => done({ value, faults }), (e) => done({ error: String(e), faults }));`;
      const { value, error, faults } = await tell('execute/async', { script, args: [] });
      page.faults.push(...faults);
      if (error !== undefined) throw new Error(error);
      return value;
    },
    press: (key) => act('key', ['keyDown', 'keyUp'].map((type) => ({ type, value: KEYS[key] ?? key }))),
    move: (x, y) => act('pointer', [move(x, y)]),
    click: (x, y) => act('pointer', [move(x, y), press, release]),
    close: async () => {},
  };
  const page = new Page(tab);
  const inner = () => page.evaluate(() => [outerWidth - innerWidth, outerHeight - innerHeight]);
  const newPage = async () => {
    const [wider, higher] = await inner();
    await tell('window/rect', { width: SIZE.width + wider, height: SIZE.height + higher });
    page.faults = [];
    return page;
  };
  return { newContext: async () => ({ newPage }), close: async () => process.kill(-driver.pid) };
}

/** Returns a free port. */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A page: it navigates, evaluates scripts, and receives keys and a pointer. */
class Page {
  #tab;
  faults = [];
  keyboard;

  constructor(tab) {
    this.#tab = tab;
    this.keyboard = { press: (key) => tab.press(key) };
  }

  goto(url) {
    return this.#tab.goto(url);
  }

  evaluate(what, arg) {
    return this.#tab.evaluate(`(${what})(${JSON.stringify(arg)})`);
  }

  url() {
    return this.evaluate(() => location.href);
  }

  context() {
    return this.#tab;
  }

  async waitForFunction(what, arg, { timeout = 30_000 } = {}) {
    // An element cannot be returned from the page.
    const source = `Promise.resolve((${what})(${JSON.stringify(arg)})).then((value) => (value instanceof Node ? true : value))`;
    for (const end = Date.now() + timeout; ; ) {
      const value = await this.#tab.evaluate(source);
      if (value) return value;
      if (Date.now() > end) throw new Error(`never: ${what}; ${await this.evaluate(() => document.body.innerText.slice(0, 300))}`);
      await sleep(100);
    }
  }

  waitForSelector(selector, { timeout } = {}) {
    return this.waitForFunction((selector) => document.querySelector(selector)?.checkVisibility() === true, selector, { timeout });
  }

  $eval(selector, what, arg) {
    return this.#tab.evaluate(`(${what})(document.querySelector(${JSON.stringify(selector)}), ${JSON.stringify(arg)})`);
  }

  $$eval(selector, what, arg) {
    return this.#tab.evaluate(`(${what})([...document.querySelectorAll(${JSON.stringify(selector)})], ${JSON.stringify(arg)})`);
  }

  textContent(selector) {
    return this.$eval(selector, (element) => element.textContent);
  }

  innerText(selector) {
    return this.$eval(selector, (element) => element.innerText);
  }

  inputValue(selector) {
    return this.$eval(selector, (element) => element.value);
  }

  getAttribute(selector, name) {
    return this.$eval(selector, (element, name) => element.getAttribute(name), name);
  }

  isVisible(selector) {
    return this.evaluate((selector) => document.querySelector(selector)?.checkVisibility() === true, selector);
  }

  isChecked(selector) {
    return this.$eval(selector, (element) => element.checked);
  }

  /** Waits for an element, and returns the position of its middle, or of a point in it, on the screen. */
  async #place(selector, { position } = {}) {
    await this.waitForSelector(selector);
    const [left, top, width, height] = await this.$eval(selector, (element) => {
      element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
      const { left, top, width, height } = element.getBoundingClientRect();
      return [left, top, width, height];
    });
    return [left + (position?.x ?? width / 2), top + (position?.y ?? height / 2)].map(Math.round);
  }

  async click(selector, options) {
    await this.#tab.click(...(await this.#place(selector, options)));
  }

  async hover(selector, options) {
    await this.#tab.move(...(await this.#place(selector, options)));
  }

  async check(selector) {
    if (!(await this.isChecked(selector))) await this.click(selector);
  }

  async uncheck(selector) {
    if (await this.isChecked(selector)) await this.click(selector);
  }

  focus(selector) {
    return this.$eval(selector, (element) => element.focus());
  }

  fill(selector, value) {
    return this.$eval(selector, (element, value) => {
      element.value = value;
      element.dispatchEvent(new Event('input', { bubbles: true }));
    }, value);
  }

  selectOption(selector, value) {
    return this.$eval(selector, (element, value) => {
      element.value = value;
      element.dispatchEvent(new Event('change', { bubbles: true }));
    }, value);
  }

  /** Selects the elements of a selector, or those of them that contain a text. */
  locator(selector, { hasText = '' } = {}) {
    const all = () => this.$$eval(selector, (all, hasText) => all.map((element) => element.innerText).filter((text) => text.includes(hasText)), hasText);
    return {
      count: async () => (await all()).length,
      allInnerTexts: all,
      innerText: async () => (await all())[0],
      first: () => ({ innerText: async () => (await all())[0] }),
      click: (options) => this.click(selector, options),
    };
  }

  /** Returns files by their paths, or by name, type and bytes. */
  async setInputFiles(selector, files) {
    const read = async (file) => (typeof file === 'string' ? { name: basename(file), mimeType: '', buffer: await readFile(file) } : file);
    const all = await Promise.all([files].flat().map(read));
    const given = all.map(({ name, mimeType, buffer }) => ({ name, type: mimeType, base64: buffer.toString('base64') }));
    await this.$eval(selector, (input, given) => {
      const transfer = new DataTransfer();
      for (const { name, type, base64 } of given) {
        const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type }));
      }
      input.files = transfer.files;
      input.dispatchEvent(new Event('change', { bubbles: true }));
    }, given);
  }

  /** Presses a button that saves a file, and intercepts the file in the page. */
  async saved(button) {
    await this.evaluate(() => {
      const { createObjectURL } = URL;
      window.saved = {};
      URL.createObjectURL = (blob) => createObjectURL.call(URL, (window.saved.blob = blob));
      HTMLAnchorElement.prototype.click = function () {
        window.saved.name = this.download;
        URL.createObjectURL = createObjectURL;
        delete HTMLAnchorElement.prototype.click;
      };
    });
    await this.click(button);
    await this.waitForFunction(() => window.saved.name !== undefined);
    const { name, base64 } = await this.evaluate(async () => {
      const bytes = new Uint8Array(await window.saved.blob.arrayBuffer());
      let text = '';
      for (const byte of bytes) text += String.fromCharCode(byte);
      return { name: window.saved.name, base64: btoa(text) };
    });
    return { name, bytes: Buffer.from(base64, 'base64') };
  }
}

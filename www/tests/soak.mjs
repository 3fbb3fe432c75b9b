// Uses the page at random for some minutes (the first argument), and checks that its answers stay right, that its
// memory stays bounded, and that there are no unhandled errors.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { argv } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { puppets } from './engines.mjs';
import { launchQuietly, serve, settled, tabPanels, visit } from './support.mjs';

const minutes = Number(argv[2] ?? 30);
const seed = Number(argv[3] ?? 1);
/** The bundled model's answers, which must be the same for the same picture. */
const seen = new Map();

const server = await serve();
const browser = await launchQuietly('--js-flags=--expose-gc');
const [tab] = await browser.pages();
const page = await puppets(tab, () => {});
const system = await browser.target().createCDPSession();
const pressure = await tab.createCDPSession();
let devices = 0;
// A service worker would keep another copy of the page's files.
await tab.evaluateOnNewDocument(() => delete Navigator.prototype.serviceWorker);
/** Runs a function in every worker; a helper that waits for work does not answer. */
const everywhere = (what) => Promise.all(tab.workers().map((worker) => Promise.race([worker.evaluate(what).catch(() => {}), sleep(1000)])));
/** Keeps the device, so that it can be destroyed from outside. */
const keepDevice = () => {
  if (!globalThis.GPUAdapter || 'device' in globalThis) return;
  const { requestDevice } = GPUAdapter.prototype;
  globalThis.device = undefined;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    return (globalThis.device = await requestDevice.call(this, descriptor));
  };
};
await visit(page, `${server.url}/?backend=cpu`);

// Mulberry32: the same seed gives the same actions.
let state = seed;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const any = (of) => of[Math.floor(random() * of.length)];
const dismiss = () => page.evaluate(() => document.querySelector('#alert-close').click());
const SAMPLES = ['cat', 'dog', 'horse'];
let current;

/** Classifies a sample and compares the answer with the first one. */
async function look(name) {
  current = name;
  await page.evaluate(() => {
    document.querySelector('#restore').click();
    // The page writes the picture's name again when it is answered, whatever was in progress before.
    history.replaceState(null, '', location.pathname + location.search);
  });
  await page.click(`[data-sample="samples/${name}.jpg"]`);
  await page.waitForFunction((name) => location.hash.includes(`${name}.jpg`), name, { timeout: 400_000 });
  await settled(page);
  const [label, share] = await page.$eval('#top li', (li) => [li.querySelector('.name').firstChild.textContent, parseFloat(li.querySelector('.share').textContent)]);
  const [before, much] = seen.get(name) ?? [label, share];
  seen.set(name, [before, much]);
  assert.equal(label, before, `${name} after ${steps} steps`);
  assert.ok(Math.abs(share - much) < 0.3, `${name}: ${share} % instead of ${much} %`);
}

const cat = await readFile(new URL('../public/samples/cat.jpg', import.meta.url));
const ACTIONS = {
  look: () => look(any(SAMPLES)),
  again: () => look(current ?? 'cat'),
  module: async () => page.click(`#map [data-at="${any(['inception_3a', 'inception_4c', 'inception_5b', 'conv1/7x7_s2'])}"]`),
  tab: async () => page.click(`[role=tab][aria-controls="${any(await tabPanels(page))}"]`),
  weigh: async () => {
    await page.evaluate((at) => [...document.querySelectorAll('#lanes input[type=checkbox]')].at(at)?.click(), Math.floor(random() * 4));
  },
  resize: () => tab.setViewport(any([{ width: 1280, height: 800 }, { width: 390, height: 844 }, { width: 800, height: 600 }])),
  theme: () => page.click('#theme'),
  broken: async () => {
    await page.setInputFiles('#file', { name: 'broken.jpg', mimeType: 'image/jpeg', buffer: cat.subarray(0, Math.floor(random() * 500)) });
    await page.waitForSelector('#alert:not([hidden])', { timeout: 400_000 });
    await dismiss();
  },
  hasty: async () => {
    // Pictures are replaced before they are answered.
    for (let i = 0; i < 4; i++) await page.setInputFiles('#file', { name: `${i}.jpg`, mimeType: 'image/jpeg', buffer: cat });
  },
  model: async () => {
    await page.setInputFiles('#file', { name: 'broken.safetensors', mimeType: '', buffer: Buffer.from(`\x40\0\0\0\0\0\0\0{"${random()}`) });
    await page.waitForSelector('#alert:not([hidden])', { timeout: 400_000 });
    await dismiss();
  },
  gpu: async () => {
    if (steps >= names.length && random() > 0.1) return;
    await everywhere(keepDevice);
    await page.click('label:has([value=gpu])');
    await page.waitForSelector('#facts[data-backend=gpu]', { timeout: 400_000 });
    await settled(page);
    const lost = await everywhere(() => globalThis.device && (globalThis.device.destroy() ?? true));
    devices += lost.filter((one) => one === true).length;
    await look('cat');
    await page.click('label:has([value=cpu])');
    await page.waitForSelector('#facts[data-backend=cpu]', { timeout: 400_000 });
    await settled(page);
    await dismiss();
  },
};

/**
 * Returns the bytes of the browser's processes with the page, its workers and its GPU, after a garbage collection and
 * after the browser has dropped its cache of pictures. The operating system counts them, since
 * `measureUserAgentSpecificMemory` counts memory that threads share once for each thread.
 */
async function memory() {
  await look('cat');
  const collect = () => globalThis.gc?.();
  await Promise.all([tab.evaluate(collect), everywhere(collect)]);
  await pressure.send('Memory.simulatePressureNotification', { level: 'critical' });
  await sleep(2000);
  const { processInfo } = await system.send('SystemInfo.getProcessInfo');
  const held = processInfo.filter(({ type }) => type === 'renderer' || type === 'GPU');
  const shares = await Promise.all(held.map(({ id }) => readFile(`/proc/${id}/smaps_rollup`, 'utf8')));
  // Pages of the program itself are shared with other browsers, and are not counted.
  const own = shares.flatMap((text) => [...text.matchAll(/^Pss_(?:Anon|Shmem): +(\d+)/gm)]);
  return own.reduce((sum, [, kilobytes]) => sum + 1024 * Number(kilobytes), 0);
}

let steps = 0;
/**
 * Each action is done once before memory is first measured, since WebAssembly's memory never shrinks; then at random.
 */
const names = Object.keys(ACTIONS);
let first;
await look('cat');
const begin = Date.now();
const counts = {};
try {
  while (Date.now() - begin < minutes * 60_000) {
    const name = names[steps] ?? any(names);
    counts[name] = (counts[name] ?? 0) + 1;
    await ACTIONS[name]();
    steps++;
    if (first === undefined && steps >= names.length && Date.now() - begin > 60_000) {
      first = await memory();
      console.log(`after ${((Date.now() - begin) / 60_000).toFixed(1)} minutes: ${(first / 1e6).toFixed(1)} MB, ${steps} steps`);
    }
  }
  const last = await memory();
  console.log(`after ${minutes} minutes: ${(last / 1e6).toFixed(1)} MB (${((last / first - 1) * 100).toFixed(1)} %), ${steps} steps`);
  console.log(`${Object.entries(counts).map((entry) => entry.join(' ')).join(', ')}; ${devices} devices destroyed; ${page.faults.length} unhandled`);
  assert.deepEqual(page.faults, []);
  assert.ok(last < first * 1.05, 'memory grew');
} finally {
  await browser.close();
  server.stop();
}

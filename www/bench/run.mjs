// Drives Chromium: `cargo xtask bench cpu` runs this, with its options in the environment.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { FLOPS, module } from './peak.mjs';
import { median, print, version } from './report.mjs';

const { CHROMIUM, BENCH_URL, BENCH_JSON, BENCH_ROUNDS, BENCH_VARIANT, BENCH_GROUP: group, BENCH_LAYERS } = process.env;
const WARM_UPS = 10;
/** The runs of a turn that are counted, after one that follows a pause and is reported separately. */
const STEADY = 2;
/** The visits to a page of each runtime; one before them fills the browser's cache. */
const VISITS = 3;
/** The tolerance of an answer, as a part of its greatest probability. */
const ALLOWED = 1e-3;

const rounds = Number(BENCH_ROUNDS);
const variants = BENCH_VARIANT === 'both' ? ['caffe', 'keras'] : [BENCH_VARIANT];

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
try {
  const result = {
    machine: `${os.cpus()[0].model}, ${os.cpus().length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.platform()} ${os.arch()}`,
    browser: `Chromium ${browser.version()}, headless`,
    rounds,
    peak: {},
    harness: undefined,
    rows: [],
    layers: {},
  };
  for (const variant of variants) await measure(variant, result);
  await writeFile(BENCH_JSON, JSON.stringify(result, undefined, 1));
  print(result, Boolean(BENCH_LAYERS));
} finally {
  await browser.close();
}

async function measure(variant, result) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(BENCH_URL);
  await page.waitForFunction(() => 'bench' in window);
  assert.ok(await page.evaluate(() => crossOriginIsolated), 'the page is not isolated: there would be no threads');
  const runtimes = await page.evaluate((group) => window.bench.choose(group), group);
  const rows = [];
  for (const [id, { name, package: of, threads, size, batch }] of runtimes.entries()) {
    const row = { runtime: name, version: await version(of), variant, threads };
    if (group !== 'scale') {
      row.first_picture_ms = median(await page.evaluate(([id, v, n]) => window.bench.firsts(id, v, n), [id, variant, VISITS]));
    }
    await page.evaluate(([id, variant]) => window.bench.open(id, variant), [id, variant]);
    if (group === 'scale') {
      Object.assign(row, { size, batch, macs: await page.evaluate((id) => window.bench.macs(id), id) });
    } else {
      const { away, control } = await page.evaluate(([id, v]) => window.bench.compare(id, v), [id, variant]);
      assert.ok(away <= ALLOWED, `${name} gives another answer: ${away} away`);
      assert.ok(control > 10 * ALLOWED, `${name} gives the same answer to another input`);
      row.away = away;
    }
    rows.push(row);
  }
  console.log(`${variant}: ${rows.length} runtimes${group === 'scale' ? '' : ' agree'}; ${rounds} rounds`);

  result.peak.mul_add = await peak(page, false);
  result.peak.relaxed_madd = await peak(page, true);
  await page.evaluate(([v, n]) => window.bench.rounds(v, n), [variant, WARM_UPS]);
  const times = await page.evaluate(([v, n, s]) => window.bench.rounds(v, n, s), [variant, rounds, STEADY]);
  for (const [id, row] of rows.entries()) {
    const { rested, steady } = times[id];
    row.median_ms = median(steady);
    row.min_ms = Math.min(...steady);
    row.rested_ms = median(rested);
  }
  if (group !== 'scale') result.layers[variant] = await layers(page, rows, variant);
  await context.close();

  if (group === 'all') {
    const harness = await visits(variant, 'nothing', 0, new Set());
    result.harness = harness.costs;
    for (const [id, row] of rows.entries()) Object.assign(row, (await visits(variant, group, id, harness.files)).costs);
  }
  result.rows.push(...rows);
}

/**
 * Measures the steps of the runtimes that time them, with medians, minima, and the limit between the runs. There is one
 * thread, since the limit is that of one thread.
 */
async function layers(page, rows, variant) {
  const all = {};
  for (const [id, { runtime, threads }] of rows.entries()) {
    const ask = (args) => window.bench.steps(...args);
    const runs = threads === 1 ? await page.evaluate(ask, [id, variant, rounds, module(true), FLOPS]) : undefined;
    if (!runs) continue;
    const steps = runs[0].steps.map((step, at) => {
      const times = runs.map((run) => run.steps[at].ms);
      return { ...step, ms: median(times), min_ms: Math.min(...times) };
    });
    all[runtime] = { limit: median(runs.flatMap((run) => run.limits)), steps };
  }
  return all;
}

/** Measures a module's rate in this page. */
async function peak(page, relaxed) {
  const rates = await page.evaluate(([bytes, flops]) => window.bench.peak(bytes, flops), [module(relaxed), FLOPS]);
  return { best: Math.max(...rates), median: median(rates) };
}

/**
 * Measures the cost of a runtime on a page of its own: the medians over visits with a warm cache. `known` are the files
 * that every page loads.
 */
async function visits(variant, group, id, known) {
  const context = await browser.newContext();
  const files = new Set();
  context.on('response', (response) => /\.(wasm|m?js)$/.test(response.url()) && files.add(response.url()));
  const seen = [];
  for (let visit = 0; visit <= VISITS; visit++) {
    const page = await context.newPage();
    await page.goto(`${BENCH_URL}/?group=${group}&visit=${id}&variant=${variant}`);
    const times = await page.evaluate(() => window.bench.visited);
    seen.push({ ...times, memory: await peakMemory() });
    await page.close();
  }
  await context.close();
  const of = (cost) => median(seen.slice(1).map((visit) => visit[cost]));
  const costs = {
    load_ms: of('load'),
    first_ms: of('first'),
    run_ms: of('later'),
    start_ms: of('start'),
    memory_bytes: os.platform() === 'linux' ? of('memory') : undefined,
  };
  const own = [...files].filter((file) => !known.has(file));
  for (const kind of ['wasm', 'js']) {
    const bodies = await Promise.all(own.filter((file) => file.endsWith(kind)).map(body));
    costs[`${kind}_bytes`] = bodies.reduce((sum, bytes) => sum + bytes.length, 0);
    costs[`${kind}_gzip`] = bodies.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0);
  }
  return { files, costs };
}

/**
 * Returns the peak of the resident memory of the page's process, with workers and code. The browser's own
 * `measureUserAgentSpecificMemory` leaves out the memory of WebAssembly, unless it is shared, which it counts once for
 * each thread.
 */
async function peakMemory() {
  if (os.platform() !== 'linux') return undefined;
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  const pages = processInfo.filter(({ type }) => type === 'renderer');
  const peaks = pages.map(async ({ id }) => {
    // A process that ends meanwhile is not the page's.
    const status = await readFile(`/proc/${id}/status`, 'utf8').catch(() => '');
    return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
  });
  // The other processes are empty ones that the browser holds ready.
  return Math.max(...(await Promise.all(peaks)));
}

async function body(url) {
  return Buffer.from(await (await fetch(url)).arrayBuffer());
}

// Drives Firefox and Chromium: `cargo xtask bench gpu` runs this, with its options in the environment.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import os from 'node:os';
import { launchChromium, launchFirefox } from '../tests/support.mjs';
import { isOurs, median, table, version } from './report.mjs';

const { BENCH_URL, BENCH_JSON, BENCH_BROWSER, BENCH_ROUNDS, BENCH_VARIANT } = process.env;
/** The default number of rounds: Chromium's software adapter takes seconds for a picture. */
const ROUNDS = { firefox: 20, chromium: 3 };
/** The tolerance of an answer, as a part of its greatest probability. */
const ALLOWED = 1e-3;

const LAUNCH = { firefox: launchFirefox, chromium: launchChromium };
const browsers = BENCH_BROWSER === 'both' ? ['firefox', 'chromium'] : [BENCH_BROWSER];
const variants = BENCH_VARIANT === 'both' ? ['caffe', 'keras'] : [BENCH_VARIANT];

const result = { machine: `${os.cpus()[0].model}, ${os.cpus().length} cores, ${os.platform()} ${os.arch()}`, rows: [] };
for (const name of browsers) {
  const browser = await LAUNCH[name]();
  const rounds = Number(BENCH_ROUNDS) || ROUNDS[name];
  const full = typeof browser.version() === 'string' ? `Chromium ${browser.version()}` : await browser.version();
  console.log(`\n# ${full}, headless; ${rounds} rounds, every runtime once in each\n${result.machine}`);
  try {
    for (const variant of variants) {
      const rows = await measure(browser, variant, rounds);
      for (const row of rows) result.rows.push({ browser: name, browser_version: full, ...row });
      print(variant, rows);
    }
  } finally {
    await browser.close();
  }
}
await writeFile(BENCH_JSON, JSON.stringify(result, undefined, 1));

/** Writes a row for each runtime; for one that does not open, or answers wrongly, the row says why. */
async function measure(browser, variant, rounds) {
  const page = await browser.newPage();
  page.setDefaultTimeout?.(600_000);
  await page.goto(BENCH_URL);
  await page.waitForFunction(() => 'bench' in window);
  const adapter = await page.evaluate(() => window.bench.adapter());
  const runtimes = await page.evaluate(() => window.bench.choose('gpu'));
  const rows = [];
  for (const [id, { name, package: of }] of runtimes.entries()) {
    const row = { runtime: name, version: await version(of), variant, adapter };
    rows.push(row);
    try {
      Object.assign(row, await page.evaluate(([id, v]) => window.bench.opened(id, v), [id, variant]));
      const { away, control } = await page.evaluate(([id, v]) => window.bench.compare(id, v), [id, variant]);
      assert.ok(away <= ALLOWED, `gives another answer: ${away} away`);
      assert.ok(control > 10 * ALLOWED, 'gives the same answer to another input');
      row.away = away;
    } catch (error) {
      if (isOurs(row)) throw error;
      row.error = String(error.message ?? error).split('\n')[0];
      await page.evaluate((id) => window.bench.close(id), id);
    }
  }
  await page.evaluate(([v]) => window.bench.rounds(v, 1), [variant]);
  const times = await page.evaluate(([v, n]) => window.bench.rounds(v, n), [variant, rounds]);
  for (const [id, row] of rows.entries()) {
    if (row.error) continue;
    row.median_ms = median(times[id].rested);
    row.min_ms = Math.min(...times[id].rested);
  }
  await page.close();
  return rows;
}

function print(variant, rows) {
  const [{ adapter }] = rows;
  const measured = rows.filter((row) => !row.error);
  const [ours] = measured.filter(isOurs);
  const ratio = (row) => (isOurs(row) ? '' : `${(ours.median_ms / row.median_ms).toFixed(2)}x`);
  console.log(`\n## ${variant}, on "${adapter}"\n`);
  table(
    ['runtime', 'load ms', 'first run ms', 'median ms', 'min ms', 'ours / it', 'answer away'],
    measured.map((row) => [
      row.runtime, row.load_ms.toFixed(0), row.first_ms.toFixed(0), row.median_ms.toFixed(1), row.min_ms.toFixed(1),
      ratio(row), row.away.toExponential(1),
    ]),
  );
  for (const { runtime, error } of rows.filter((row) => row.error)) console.log(`${runtime}: not measured: ${error}`);
}

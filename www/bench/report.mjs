// The report in Markdown, from the measurements.

import { readFile } from 'node:fs/promises';

const OURS = 'googlenet-web';

/** With `everyStep`, each step of our runs has a row; without it, there are only their sums. */
export function print({ machine, browser, rounds, peak, harness, rows, layers }, everyStep) {
  console.log(`\n${machine}\n${browser}; ${rounds} rounds, every runtime in each: a run after a pause, and two more, which are the median's`);
  console.log(`Limit of one thread, registers only: multiply and add ${rate(peak.mul_add)}, relaxed madd ${rate(peak.relaxed_madd)} GFLOP/s`);
  for (const variant of new Set(rows.map((row) => row.variant))) {
    const these = rows.filter((row) => row.variant === variant);
    console.log(`\n## ${variant}`);
    if (these[0].batch) printScale(these);
    else {
      printTimes(these);
      if (harness) printCosts(these, harness);
    }
    for (const [runtime, seen] of Object.entries(layers[variant] ?? {})) printLayers(runtime, seen, everyStep);
  }
}

/** Returns the fastest of our rows and of the peers', for each number of threads. */
function printTimes(rows) {
  const best = fastest(rows.filter(isOurs));
  const lines = rows.map((row) => {
    const mine = best.get(row.threads);
    const ratio = isOurs(row) || !mine ? '' : `${(mine.median_ms / row.median_ms).toFixed(2)}x`;
    return [row.runtime, row.threads, row.median_ms.toFixed(1), row.min_ms.toFixed(1), row.first_picture_ms.toFixed(1), row.rested_ms.toFixed(1), ratio, row.away.toExponential(1)];
  });
  table(['runtime', 'threads', 'median ms', 'min ms', 'first picture', 'after a pause', 'ours / it', 'answer away'], lines);
  const peers = fastest(rows.filter((row) => !isOurs(row)));
  for (const [threads, peer] of peers) {
    const mine = best.get(threads);
    if (!mine) continue;
    console.log(`${threads} thread${threads > 1 ? 's' : ''}: ${mine.runtime} takes ${(mine.median_ms / peer.median_ms).toFixed(2)}x the fastest peer's median (${peer.runtime})`);
  }
  for (const row of rows.filter(isOurs)) {
    const times = (ms) => `${(ms / row.median_ms).toFixed(2)}x`;
    console.log(`${row.runtime}, ${row.threads} thread${row.threads > 1 ? 's' : ''}: the first picture takes ${times(row.first_picture_ms)} the median, one after a pause ${times(row.rested_ms)}`);
  }
  for (const row of rows.filter((row) => isOurs(row) && row.threads > 1)) {
    const alone = rows.find((other) => other.runtime === row.runtime && other.threads === 1);
    if (alone) console.log(`${row.runtime}: ${row.threads} threads are ${(alone.median_ms / row.median_ms).toFixed(2)}x as fast as one`);
  }
}

function printCosts(rows, harness) {
  const kb = (bytes) => Math.round(bytes / 1e3);
  const mb = (bytes) => (bytes === undefined ? '' : Math.round(bytes / 1e6));
  console.log('');
  table(
    ['runtime', 'threads', 'load ms', 'first run ms', 'navigation to answer ms', 'wasm kB', 'gzip', 'JS kB', 'gzip', 'peak memory MB'],
    rows.map((row) => [
      row.runtime, row.threads, row.load_ms.toFixed(0), row.first_ms.toFixed(0), row.start_ms.toFixed(0),
      kb(row.wasm_bytes), kb(row.wasm_gzip), kb(row.js_bytes), kb(row.js_gzip), mb(row.memory_bytes),
    ]),
  );
  const memory = harness.memory_bytes === undefined ? '' : `, ${mb(harness.memory_bytes)} MB`;
  console.log(`Of which the page itself, with a worker that does nothing: navigation to answer ${harness.start_ms.toFixed(0)} ms, a run ${harness.run_ms.toFixed(2)} ms${memory}`);
}

function printScale(rows) {
  table(
    ['size', 'batch', 'multiply-adds G', 'median ms', 'min ms', 'ms a picture', 'ms a G'],
    rows.map(({ size, batch, macs, median_ms, min_ms }) => [
      size, batch, (macs / 1e9).toFixed(2), median_ms.toFixed(1), min_ms.toFixed(1),
      (median_ms / batch).toFixed(1), (median_ms / (macs / 1e9)).toFixed(1),
    ]),
  );
}

/** Compares each step with the limit, by the multiply-adds it executes and by those of a direct convolution. */
function printLayers(runtime, { limit, steps }, everyStep) {
  const part = (macs, ms) => (macs ? `${((200 * macs) / 1e6 / ms / limit).toFixed(0)} %` : '');
  const line = ({ node, algorithm, ms, min_ms, executed, macs }) => [
    node, algorithm ?? '', ms.toFixed(3), min_ms.toFixed(3), (macs / 1e6).toFixed(1),
    part(executed, ms), part(executed, min_ms), part(macs, ms),
  ];
  const total = (node, of) => {
    const sum = (what) => of.reduce((sum, step) => sum + step[what], 0);
    return { node, ms: sum('ms'), min_ms: sum('min_ms'), executed: sum('executed'), macs: sum('macs') };
  };
  console.log(`\n### ${runtime}, one thread: parts of ${limit.toFixed(1)} GFLOP/s, the limit's median between its runs\n`);
  table(
    ['step', 'algorithm', 'ms', 'least', 'direct M', 'executed, of limit', 'by the least', 'direct, of limit'],
    [...(everyStep ? steps.map(line) : []), line(total('all convolutions', steps.filter(isConvolution))), line(total('all', steps))],
  );
}

const isConvolution = ({ kind }) => kind === 'conv';
export const isOurs = (row) => row.runtime.startsWith(OURS);
const rate = ({ best, median }) => `${best.toFixed(1)} (median ${median.toFixed(1)})`;

/** Returns the row of the smallest median, for each number of threads. */
function fastest(rows) {
  const best = new Map();
  for (const row of rows) if (!(best.get(row.threads)?.median_ms <= row.median_ms)) best.set(row.threads, row);
  return best;
}

export function table(head, lines) {
  const all = [head, ...lines].map((line) => line.map(String));
  const widths = head.map((_, at) => Math.max(...all.map((line) => line[at].length)));
  const show = (line) => `| ${line.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join(' | ')} |`;
  const [first, ...rest] = all.map(show);
  console.log([first, `| ${widths.map((w, at) => (at === 0 ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |`, ...rest].join('\n'));
}

/** Returns the version of a package that is measured. */
export async function version(of) {
  const file = of === 'googlenet-web' ? '../package.json' : `../node_modules/${of}/package.json`;
  return JSON.parse(await readFile(new URL(file, import.meta.url), 'utf8')).version;
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

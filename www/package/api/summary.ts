// The table that `net.summary()` returns.

import type { Layer } from './types.js';

const TITLES = ['Layer (type)', 'Output shape', 'Params', 'Multiply-adds', 'Connected to'];

/** Formats the layers as a text table like that of Keras' `model.summary()`, with a line of totals. */
export function formatLayers(layers: readonly Layer[]): string {
  const number = (n: number) => n.toLocaleString('en');
  const rows = layers.map(({ layer, kind, shape, params, macs, inputs }) => {
    return [`${layer} (${kind})`, shape.join('x'), number(params), number(macs), inputs.join(', ')];
  });
  const all = [TITLES, ...rows];
  const widths = TITLES.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const lines = all.map((row) => {
    const cells = row.map((cell, i) => (i === 2 || i === 3 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    return cells.join('  ').trimEnd();
  });
  const rule = '-'.repeat(Math.max(...lines.map((line) => line.length)));
  const sum = (of: 'params' | 'macs') => number(layers.reduce((total, layer) => total + layer[of], 0));
  const total = `Total: ${sum('params')} parameters, ${sum('macs')} multiply-adds for one picture`;
  return [lines[0], rule, ...lines.slice(1), rule, total].join('\n');
}

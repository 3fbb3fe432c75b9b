// The network in numbers: its layers, what the reductions save, and where the time goes.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { byId, make } from '../dom';
import { copy } from './save';

type Cell = string | number;

const layers = byId('layers', HTMLTableElement);
const cost = byId('cost', HTMLTableElement);
const time = byId('time-table', HTMLTableElement);
const flame = byId('flame', HTMLElement);

let network: GoogLeNet | undefined;
let by = -1;

/** Calls back when a run is to be measured, on this engine or on both. */
export function listen(measure: (both: boolean) => void): void {
  byId('measure', HTMLButtonElement).addEventListener('click', () => measure(false));
  byId('measure-other', HTMLButtonElement).addEventListener('click', () => measure(true));
  byId('copy-layers', HTMLButtonElement).addEventListener('click', (event) => {
    const button = event.currentTarget as HTMLButtonElement;
    if (network) copy(network.summary(), button);
  });
  layers.addEventListener('click', ({ target }) => {
    const column = target instanceof HTMLElement ? target.closest<HTMLElement>('[data-column]')?.dataset.column : undefined;
    if (column === undefined) return;
    by = by === Number(column) ? -1 : Number(column);
    if (network) showLayers(network);
  });
}

export function show(net: GoogLeNet): void {
  if (network !== net) {
    time.replaceChildren();
    flame.replaceChildren();
  }
  network = net;
  showLayers(net);
  showCost(net);
}

function showLayers({ layers: all }: GoogLeNet): void {
  const rows = all.map(({ layer, kind, shape, params, macs, field, inputs }): Cell[] => {
    return [layer, kind, shape.join('x'), params, macs, field[0], inputs.join(', ')];
  });
  if (by >= 0) {
    rows.sort((a, b) => {
      const [x, y] = [a[by]!, b[by]!];
      return typeof x === 'number' && typeof y === 'number' ? y - x : String(x).localeCompare(String(y), 'en', { numeric: true });
    });
  }
  fill(layers, ['Layer', 'Kind', 'Output', 'Parameters', 'Multiply-adds', 'Receptive field', 'Reads'], rows, by);
}

/** Each module as it is against one whose 3x3 and 5x5 convolutions read the module's input themselves. */
function showCost({ layers: all }: GoogLeNet): void {
  const named = new Map(all.map((layer) => [layer.layer, layer]));
  const rows: Cell[][] = [];
  for (const layer of all) {
    const reduce = named.get(`${layer.layer}_reduce`);
    const input = reduce && named.get(reduce.inputs[0] ?? '');
    if (!reduce || !input || !layer.module) continue;
    const naive = directly(layer, reduce, input);
    const reduced = { macs: layer.macs + reduce.macs, params: layer.params + reduce.params };
    const saved = `${(naive.macs / reduced.macs).toFixed(1)}x`;
    rows.push([layer.layer, naive.macs, reduced.macs, saved, naive.params, reduced.params]);
  }
  fill(cost, ['Branch', 'Multiply-adds, directly', 'with its reduction', 'less by', 'Parameters, directly', 'with its reduction'], rows);
}

/** The same convolution on the module's input. Its window follows from its parameters: a weight each, and a bias. */
function directly({ shape, params }: Layer, reduce: Layer, input: Layer): { macs: number; params: number } {
  const [height, width, channels] = shape;
  const window = (params / channels - 1) / reduce.shape[2];
  const weights = window * input.shape[2] * channels;
  return { macs: height * width * weights, params: weights + channels };
}

/** A run's times on one engine. */
export interface Timed {
  engine: string;
  steps: StepTime[];
}

/** Where the time of one run, or of a run on each engine, goes: as a flame chart and step by step. */
export function showTime({ layers: all }: GoogLeNet, runs: Timed[]): void {
  const named = new Map(all.map((layer) => [layer.layer, layer]));
  const macs = all.reduce((sum, layer) => sum + layer.macs, 0);
  const totals = runs.map(({ steps }) => steps.reduce((sum, { ms }) => sum + ms, 0));
  // An engine may fuse what the other does in steps of their own.
  const order = all.map(({ layer }) => layer).filter((layer) => runs.some(({ steps }) => steps.some(({ node }) => node === layer)));
  const rows = order.map((node): Cell[] => {
    const of = runs.map(({ steps }) => steps.find((step) => step.node === node));
    const times = of.flatMap((step, at) => (step ? [step.ms.toFixed(2), percent(step.ms / totals[at]!)] : ['', '']));
    return [node, of[0]?.algorithm ?? named.get(node)?.kind ?? '', ...times, percent((named.get(node)?.macs ?? 0) / macs)];
  });
  const heads = runs.flatMap(({ engine }) => [`${engine}, ms`, 'Of its time']);
  fill(time, ['Step', 'How', ...heads, 'Of the multiply-adds'], rows);
  const longest = Math.max(...runs[0]!.steps.map(({ ms }) => ms), 1e-9);
  for (const [at, row] of [...time.tBodies[0]!.rows].entries()) {
    const cell = row.cells[3]!;
    cell.classList.add('bar');
    cell.style.setProperty('--part', String(Number(row.cells[2]!.textContent) / longest));
    row.dataset.step = order[at];
  }
  flame.replaceChildren(...runs.map((run, at) => chart(run, totals[at]!, named)));
  byId('time-total', HTMLElement).textContent = runs
    .map(({ engine, steps }, at) => (steps.length > 0 ? `${engine}: ${totals[at]!.toFixed(1)} ms in ${steps.length} steps` : `${engine} does not measure its steps`))
    .join('; ');
}

/** Modules over their steps, as wide as they take long, in the order of the run. Threads count each for itself. */
function chart({ engine, steps }: Timed, total: number, named: Map<string, Layer>): HTMLElement {
  const box = make('div', 'flame');
  box.setAttribute('role', 'img');
  let block: HTMLElement | undefined;
  let label = '';
  const sums = new Map<string, number>();
  for (const { node, ms } of steps) {
    const { module, branch } = named.get(node) ?? {};
    const name = module?.replace('inception_', '') ?? node.replace(/[/_].*/, '');
    if (name !== label) {
      block = make('div', 'block', make('span', 'block-name', name), make('span', 'steps'));
      box.append(block);
      label = name;
    }
    sums.set(name, (sums.get(name) ?? 0) + ms);
    const step = make('span', `step of-${branch ?? 'none'}`);
    step.style.setProperty('--part', String(ms));
    step.title = `${node}: ${ms.toFixed(2)} ms, ${percent(ms / total)}`;
    block!.lastElementChild!.append(step);
    block!.style.setProperty('--part', String(sums.get(name)! / total));
    block!.title = `${name}: ${sums.get(name)!.toFixed(2)} ms, ${percent(sums.get(name)! / total)}`;
  }
  const longest = [...sums].sort(([, a], [, b]) => b - a).slice(0, 3).map(([name, ms]) => `${name} ${percent(ms / total)}`);
  box.setAttribute('aria-label', `Time on ${engine}: most in ${longest.join(', ')}`);
  return make('div', '', make('p', 'soft', engine), box);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** Fills a table; where `sortedBy` is given its heads sort it. */
export function fill(table: HTMLTableElement, titles: string[], rows: Cell[][], sortedBy?: number): void {
  const head = titles.map((title, column) => {
    const th = make('th', '');
    th.scope = 'col';
    if (sortedBy === undefined) th.append(title);
    else {
      const button = make('button', '', title);
      button.type = 'button';
      button.dataset.column = String(column);
      th.append(button);
      if (column === sortedBy) th.setAttribute('aria-sort', typeof rows[0]?.[column] === 'number' ? 'descending' : 'ascending');
    }
    return th;
  });
  const line = (row: Cell[]) => {
    return make('tr', '', ...row.map((cell) => {
      return typeof cell === 'number' ? make('td', 'number', cell.toLocaleString('en')) : make('td', '', cell);
    }));
  };
  table.replaceChildren(make('thead', '', make('tr', '', ...head)), make('tbody', '', ...rows.map(line)));
}

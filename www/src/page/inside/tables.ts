// The network in numbers: its layers, what the reductions save, and where the time goes.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { byId, make } from '../dom';

type Cell = string | number;

const layers = byId('layers', HTMLTableElement);
const cost = byId('cost', HTMLTableElement);
const time = byId('time-table', HTMLTableElement);

let network: GoogLeNet | undefined;
let by = -1;

export function listen(measure: () => void): void {
  byId('measure', HTMLButtonElement).addEventListener('click', measure);
  byId('copy-layers', HTMLButtonElement).addEventListener('click', (event) => {
    const button = event.currentTarget as HTMLButtonElement;
    if (!network) return;
    navigator.clipboard.writeText(network.summary()).then(
      () => (button.textContent = 'Copied'),
      () => (button.textContent = 'The browser does not allow it'),
    );
  });
  layers.addEventListener('click', ({ target }) => {
    const column = target instanceof HTMLElement ? target.closest<HTMLElement>('[data-column]')?.dataset.column : undefined;
    if (column === undefined) return;
    by = by === Number(column) ? -1 : Number(column);
    if (network) showLayers(network);
  });
}

export function show(net: GoogLeNet): void {
  network = net;
  showLayers(net);
  showCost(net);
}

function showLayers({ layers: all }: GoogLeNet): void {
  const rows = all.map(({ layer, kind, shape, params, macs, inputs }): Cell[] => {
    return [layer, kind, shape.join('x'), params, macs, inputs.join(', ')];
  });
  if (by >= 0) {
    rows.sort((a, b) => {
      const [x, y] = [a[by]!, b[by]!];
      return typeof x === 'number' && typeof y === 'number' ? y - x : String(x).localeCompare(String(y), 'en', { numeric: true });
    });
  }
  fill(layers, ['Layer', 'Kind', 'Output', 'Parameters', 'Multiply-adds', 'Reads'], rows, by);
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

export function showTime({ layers: all }: GoogLeNet, steps: StepTime[]): void {
  const named = new Map(all.map((layer) => [layer.layer, layer]));
  const total = steps.reduce((sum, { ms }) => sum + ms, 0);
  const macs = all.reduce((sum, layer) => sum + layer.macs, 0);
  const rows = steps.map(({ node, ms, algorithm }): Cell[] => {
    const share = (named.get(node)?.macs ?? 0) / macs;
    return [node, algorithm ?? named.get(node)?.kind ?? '', ms.toFixed(2), percent(ms / total), percent(share)];
  });
  fill(time, ['Step', 'How', 'ms', 'Of the time', 'Of the multiply-adds'], rows);
  [...time.tBodies[0]!.rows].forEach((row, at) => {
    row.cells[3]!.classList.add('bar');
    row.cells[3]!.style.setProperty('--part', String(steps[at]!.ms / Math.max(...steps.map(({ ms }) => ms), 1e-9)));
  });
  byId('time-total', HTMLElement).textContent =
    steps.length > 0 ? `${total.toFixed(1)} ms in ${steps.length} steps; threads count each for itself.` : 'This device does not measure its steps.';
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function fill(table: HTMLTableElement, titles: string[], rows: Cell[][], sortedBy?: number): void {
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

// The network in numbers: its layers, what the reductions save, and where the time goes.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { byId, share } from '../dom';
import { copy } from './save';

/** A text, a number, or a whole cell. */
type Cell = string | number | TemplateResult;

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
}

export function show(net: GoogLeNet): void {
  if (network !== net) {
    render(nothing, time);
    render(nothing, flame);
  }
  network = net;
  showLayers(net);
  showCost(net);
}

function showLayers(net: GoogLeNet): void {
  const rows = net.layers.map(({ layer, kind, shape, params, macs, field, inputs }): Cell[] => {
    return [layer, kind, shape.join('x'), params, macs, field[0], inputs.join(', ')];
  });
  if (by >= 0) {
    rows.sort((a, b) => {
      const [x, y] = [a[by]!, b[by]!];
      return typeof x === 'number' && typeof y === 'number' ? y - x : String(x).localeCompare(String(y), 'en', { numeric: true });
    });
  }
  const choose = (column: number) => {
    by = by === column ? -1 : column;
    showLayers(net);
  };
  fill(layers, ['Layer', 'Kind', 'Output', 'Parameters', 'Multiply-adds', 'Receptive field', 'Reads'], rows, { by, choose });
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
  const longest = Math.max(...runs[0]!.steps.map(({ ms }) => ms), 1e-9);
  const rows = order.map((node): Cell[] => {
    const of = runs.map(({ steps }) => steps.find((step) => step.node === node));
    const times = of.flatMap((step, at): Cell[] => {
      const part = step ? percent(step.ms / totals[at]!) : '';
      return [step?.ms.toFixed(2) ?? '', at > 0 ? part : html`<td class="bar" ${share('--part', (step?.ms ?? 0) / longest)}>${part}</td>`];
    });
    return [node, of[0]?.algorithm ?? named.get(node)?.kind ?? '', ...times, percent((named.get(node)?.macs ?? 0) / macs)];
  });
  const heads = runs.flatMap(({ engine }) => [`${engine}, ms`, 'Of its time']);
  fill(time, ['Step', 'How', ...heads, 'Of the multiply-adds'], rows);
  render(runs.map((run, at) => chart(run, totals[at]!, named)), flame);
  byId('time-total', HTMLElement).textContent = runs
    .map(({ engine, steps }, at) => (steps.length > 0 ? `${engine}: ${totals[at]!.toFixed(1)} ms in ${steps.length} steps` : `${engine} does not measure its steps`))
    .join('; ');
}

/** Modules over their steps, as wide as they take long, in the order of the run. Threads count each for itself. */
function chart({ engine, steps }: Timed, total: number, named: Map<string, Layer>): TemplateResult {
  const blocks: { name: string; ms: number; steps: StepTime[] }[] = [];
  for (const step of steps) {
    const name = named.get(step.node)?.module?.replace('inception_', '') ?? step.node.replace(/[/_].*/, '');
    let block = blocks.at(-1);
    if (block?.name !== name) blocks.push((block = { name, ms: 0, steps: [] }));
    block.ms += step.ms;
    block.steps.push(step);
  }
  const told = (name: string, ms: number) => `${name}: ${ms.toFixed(2)} ms, ${percent(ms / total)}`;
  const within = ({ node, ms }: StepTime) => {
    return html`<span class="step of-${named.get(node)?.branch ?? 'none'}" title=${told(node, ms)} ${share('--part', ms)}></span>`;
  };
  const over = ({ name, ms, steps }: (typeof blocks)[number]) => html`<div class="block" title=${told(name, ms)} ${share('--part', ms / total)}>
    <span class="block-name">${name}</span><span class="steps">${steps.map(within)}</span>
  </div>`;
  const longest = [...blocks].sort((a, b) => b.ms - a.ms).slice(0, 3).map(({ name, ms }) => `${name} ${percent(ms / total)}`);
  return html`<div>
    <p class="soft">${engine}</p>
    <div class="flame" role="img" aria-label="Time on ${engine}: most in ${longest.join(', ')}">${blocks.map(over)}</div>
  </div>`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** By which column a table is sorted, and what is to happen where another is chosen. */
interface Sorting {
  by: number;
  choose: (column: number) => void;
}

/** Fills a table; with a sorting its heads can be chosen. */
export function fill(table: HTMLTableElement, titles: string[], rows: Cell[][], sorting?: Sorting): void {
  const head = (title: string, column: number) => {
    const order = typeof rows[0]?.[column] === 'number' ? 'descending' : 'ascending';
    const button = sorting && html`<button type="button" @click=${() => sorting.choose(column)}>${title}</button>`;
    return html`<th scope="col" aria-sort=${column === sorting?.by ? order : nothing}>${button ?? title}</th>`;
  };
  const cell = (value: Cell) => {
    if (typeof value === 'number') return html`<td class="number">${value.toLocaleString('en')}</td>`;
    return typeof value === 'string' ? html`<td>${value}</td>` : value;
  };
  const body = rows.map((row) => html`<tr>${row.map(cell)}</tr>`);
  render(html`<thead><tr>${titles.map(head)}</tr></thead><tbody>${body}</tbody>`, table);
}

// Two pictures at the same layer, and one picture on both engines.

import type { Activation, GoogLeNet, Info, Source } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { byId, canvas } from '../dom';
import { fetched } from '../sources';
import { names, percent } from '../words';
import { branchesOf } from '../inside/branches';
import { copy } from '../inside/save';
import { fill } from '../inside/table';
import { extent } from '../inside/values';

const pair = byId('pair', HTMLElement);
const table = byId('differences', HTMLTableElement);
const run = byId('differ', HTMLButtonElement);
const copyButton = byId('copy-differ', HTMLButtonElement);
const bar = byId('differ-bar', HTMLProgressElement);
const progress = byId('differ-progress', HTMLElement);

let second: File | undefined;
let report = '';

/** Calls back when there is a second picture, and when the engines are to be compared. */
export function listen(paired: () => void, differ: () => void, refuse: (why: unknown) => void): void {
  const took = (file: File) => {
    second = file;
    paired();
  };
  const picker = byId('second-file', HTMLInputElement);
  picker.addEventListener('change', () => {
    const file = picker.files?.[0];
    picker.value = '';
    if (file) took(file);
  });
  const sample = byId('second-sample', HTMLSelectElement);
  sample.addEventListener('change', () => {
    if (sample.value) fetched(sample.value).then(took, refuse);
  });
  run.addEventListener('click', differ);
  copyButton.addEventListener('click', () => copy(report, copyButton));
}

/** Whether there is a second picture. */
export function paired(): boolean {
  return second !== undefined;
}

/** Forgets what was compared. */
export function clear(): void {
  render(nothing, table);
  copyButton.hidden = true;
  progress.textContent = '';
}

/** Both pictures at one module, in the same colours. The network has run both when this ends. */
export async function showPair(net: GoogLeNet, first: Source, at: string, still: () => boolean): Promise<void> {
  if (!second) return;
  const pictures = [first, second];
  const outcomes = await net.classifyMany(pictures, { batch: 2, top: 1 });
  const layers = branchesOf(net, at).length > 0 ? branchesOf(net, at) : [at];
  const columns: TemplateResult[] = [];
  const ranges = await Promise.all(layers.map(async (layer) => extent([await net.stats(layer, 0), await net.stats(layer, 1)])));
  for (const [image, source] of pictures.entries()) {
    const outcome = outcomes[image]!;
    if (outcome instanceof Error) throw outcome;
    const top = outcome.top[0]!;
    const name = source instanceof File ? source.name : 'the picture';
    const figures: TemplateResult[] = [];
    for (const [index, layer] of layers.entries()) {
      const tiles = canvas(html`<canvas class="tiles" role="img" aria-label="${layer} of ${name}"></canvas>`);
      await net.draw(tiles, { layer, image, range: ranges[index]! });
      figures.push(html`<figure class="lane"><figcaption>${layer.replace('inception_', '')}</figcaption>${tiles}</figure>`);
    }
    columns.push(html`<div>
      <p><b>${name}: ${names(top.label)[0]}, ${percent(top.probability)}</b></p>
      <div class="lanes">${figures}</div>
    </div>`);
  }
  if (still()) render(columns, pair);
}

/** The greatest difference of each layer between two engines that have run the same picture. */
export async function differ(net: GoogLeNet, other: GoogLeNet, still: () => boolean): Promise<void> {
  run.disabled = true;
  bar.hidden = false;
  bar.max = net.layers.length;
  const rows: (string | number)[][] = [];
  try {
    for (const [at, { layer, shape }] of net.layers.entries()) {
      const [here, there] = [await net.activation(layer), await other.activation(layer)];
      if (!still()) return;
      const most = here.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const off = difference(here, there);
      rows.push([layer, shape.join('x'), most.toPrecision(4), off.toExponential(2), most > 0 ? (off / most).toExponential(2) : '0']);
      bar.value = at + 1;
      progress.textContent = `${at + 1} of ${net.layers.length}`;
    }
  } finally {
    run.disabled = false;
    bar.hidden = true;
  }
  const heads = ['Layer', 'Output', 'Greatest value', 'Greatest difference', 'Of the greatest value'];
  fill(table, heads, rows);
  const about = [engine(net.info), engine(other.info), navigator.userAgent];
  report = [...about, '', heads.join('\t'), ...rows.map((row) => row.join('\t'))].join('\n');
  progress.textContent = `${about[0]} against ${about[1]}`;
  copyButton.hidden = false;
  copyButton.textContent = 'Copy as text';
}

function engine({ backend, adapter, threads, model }: Info): string {
  return `${model} on ${backend === 'webgpu' ? 'GPU' : 'CPU'}, ${adapter}${threads > 1 ? `, ${threads} threads` : ''}`;
}

function difference({ data: a }: Activation, { data: b }: Activation): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const off = Math.abs(a[i]! - b[i]!);
    // Also where one of them is not a number.
    if (!(off <= most)) most = off;
  }
  return most;
}

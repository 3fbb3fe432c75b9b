// The tab "Compare": two pictures at the same module, and one picture on both engines.

import type { Activation, GoogLeNet, Info } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { byId, canvas } from '../dom';
import { engineName, names, percent } from '../format';
import { branchesOf } from '../inside/branches';
import { copy } from '../inside/save';
import { extent } from '../inside/statistics';
import { fetched } from '../sources';
import { fillTable } from './table';
import type { IsCurrent, Tab, View } from './tab';

const pair = byId('pair', HTMLElement);
const table = byId('differences', HTMLTableElement);
const start = byId('differ', HTMLButtonElement);
const copyButton = byId('copy-differ', HTMLButtonElement);
const bar = byId('differ-bar', HTMLProgressElement);
const progress = byId('differ-progress', HTMLElement);

const TITLES = ['Layer', 'Output', 'Greatest value', 'Greatest difference', 'Of the greatest value'];

let view: View;
let second: File | undefined;
/** The differences as text, for the clipboard. */
let report = '';

export const compare: Tab = {
  panel: 'compare',
  label: 'Compare',
  connect: (section) => {
    view = section;
    const take = (file: File) => {
      second = file;
      view.run(showPair);
    };
    const picker = byId('second-file', HTMLInputElement);
    picker.addEventListener('change', () => {
      const file = picker.files?.[0];
      picker.value = '';
      if (file) take(file);
    });
    const sample = byId('second-sample', HTMLSelectElement);
    sample.addEventListener('change', () => {
      if (sample.value) fetched(sample.value).then(take, view.complain);
    });
    start.addEventListener('click', () => view.run(compareEngines));
    copyButton.addEventListener('click', () => copy(report, copyButton));
  },
  clear: () => {
    render(nothing, table);
    copyButton.hidden = true;
    progress.textContent = '';
  },
  showModule: async (isCurrent) => {
    if (second) await showPair(isCurrent);
  },
};

/** Shows both pictures at the chosen module, with all branches on. Then the network has run the first picture again. */
async function showPair(isCurrent: IsCurrent): Promise<void> {
  const { net } = view;
  await net.ablate({});
  try {
    if (second) await drawPair([view.picture, second], isCurrent);
  } finally {
    await view.restore(net);
  }
}

/** Draws both pictures in the same range of values. */
async function drawPair(pictures: [File | HTMLCanvasElement, File], isCurrent: IsCurrent): Promise<void> {
  const { net, module } = view;
  const outcomes = await net.classifyMany(pictures, { batch: 2, top: 1 });
  const layers = branchesOf(net, module).length > 0 ? branchesOf(net, module) : [module];
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
  if (isCurrent()) render(columns, pair);
}

/** Runs the picture on both engines with all branches on, and shows how much their layers differ. */
async function compareEngines(isCurrent: IsCurrent): Promise<void> {
  const { net, picture } = view;
  await net.ablate({});
  try {
    await view.withOtherEngine(async (other) => {
      await other.classify(picture);
      await showDifferences(net, other, isCurrent);
    });
  } finally {
    await view.restore(net);
  }
}

/** Shows the greatest difference of each layer between two engines that have run the same picture. */
async function showDifferences(net: GoogLeNet, other: GoogLeNet, isCurrent: IsCurrent): Promise<void> {
  start.disabled = true;
  bar.hidden = false;
  bar.max = net.layers.length;
  const rows: (string | number)[][] = [];
  try {
    for (const [at, { layer, shape }] of net.layers.entries()) {
      const [here, there] = [await net.activation(layer), await other.activation(layer)];
      if (!isCurrent()) return;
      const most = here.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const off = difference(here, there);
      rows.push([layer, shape.join('x'), most.toPrecision(4), off.toExponential(2), most > 0 ? (off / most).toExponential(2) : '0']);
      bar.value = at + 1;
      progress.textContent = `${at + 1} of ${net.layers.length}`;
    }
  } finally {
    start.disabled = false;
    bar.hidden = true;
  }
  fillTable(table, TITLES, rows);
  const engines = [describe(net.info), describe(other.info)];
  report = [...engines, navigator.userAgent, '', TITLES.join('\t'), ...rows.map((row) => row.join('\t'))].join('\n');
  progress.textContent = engines.join(' against ');
  copyButton.hidden = false;
  copyButton.textContent = 'Copy as text';
}

function describe(info: Info): string {
  const { adapter, threads, model } = info;
  return `${model} on ${engineName(info)}, ${adapter}${threads > 1 ? `, ${threads} threads` : ''}`;
}

/** Returns the greatest absolute difference of two outputs. It is NaN where one of them has a NaN. */
function difference({ data: a }: Activation, { data: b }: Activation): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const off = Math.abs(a[i]! - b[i]!);
    // A comparison with NaN is false.
    if (!(off <= most)) most = off;
  }
  return most;
}

// Why a class: where in the picture its score comes from, and from which channels.

import type { ActivationMap, GoogLeNet } from 'googlenet-web';
import { byId, make } from '../dom';
import { names } from '../words';
import { overlay, type Shown } from './picture';
import { savePng } from './save';
import { descending } from './values';

const select = byId('class', HTMLSelectElement);
const part = byId('part', HTMLSelectElement);
const heat = byId('heat', HTMLCanvasElement);
const sums = byId('sums', HTMLElement);
const best = byId('best', HTMLCanvasElement);
const bestNames = byId('best-names', HTMLElement);

const CHANNELS = 8;

export function listen(change: () => void): void {
  select.addEventListener('change', change);
  part.addEventListener('change', change);
  byId('save-heat', HTMLButtonElement).addEventListener('click', () => {
    savePng(heat, 'heat-map');
  });
}

/** Offers the classes; the one that was chosen stays, unless the model is another. */
export function offer(labels: string[], index: number): void {
  if (select.options.length !== labels.length || select.options[0]?.text !== names(labels[0] ?? '')[0]) {
    select.replaceChildren(...labels.map((label, at) => new Option(names(label)[0], String(at))));
  }
  select.value = String(index);
}

/** Chooses a class, as if by hand. */
export function choose(index: number): void {
  select.value = String(index);
}

export function chosen(): number {
  return Number(select.value);
}

export async function show(net: GoogLeNet, picture: Shown | undefined, still: () => boolean): Promise<void> {
  const index = chosen();
  const map = await net.cam(index);
  const { logit, bias, channels, branches } = await net.contributions(index);
  const last = net.layers.findLast(({ module }) => module !== null)?.layer ?? '';
  const order = descending(channels).slice(0, CHANNELS);
  const sheet = document.createElement('canvas');
  await net.draw(sheet, { layer: last, channels: order, columns: CHANNELS, scale: 8 });
  if (!still()) return;
  overlay(heat, picture, colours(map, part.value), 1);
  heat.hidden = false;
  heat.setAttribute('aria-label', `Where in the picture the score of ${names(net.info.labels[index] ?? '')[0]} comes from`);
  best.width = sheet.width;
  best.height = sheet.height;
  best.getContext('2d')?.drawImage(sheet, 0, 0);
  bestNames.replaceChildren(...order.map((channel) => make('li', '', make('b', '', String(channel)), signed(channels[channel]!))));
  const rows: [string, number][] = [['bias', bias], ...branches.map(({ branch, sum }): [string, number] => [branch, sum])];
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)));
  sums.replaceChildren(...rows.map(([name, value]) => row(name, value, most)), total(logit));
}

/** The map as colours: red for it, blue against it, clear where there is nothing either way. */
function colours({ data, shape: [height, width], branches }: ActivationMap, which: string): HTMLCanvasElement {
  const values = branches.find(({ branch }) => branch === which)?.data ?? data;
  // One scale for all, so that branches can be compared.
  const most = data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  const image = new ImageData(width, height);
  values.forEach((value, cell) => {
    // Squared, so that what matters most stands out.
    const share = Math.min(1, Math.abs(value) / most) ** 2;
    image.data.set([...(value > 0 ? [214, 40, 40] : [40, 90, 214]), Math.round(share * 200)], cell * 4);
  });
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  canvas.getContext('2d')?.putImageData(image, 0, 0);
  return canvas;
}

function row(name: string, value: number, most: number): HTMLElement {
  const fill = make('span', value < 0 ? 'fill against' : 'fill');
  fill.style.setProperty('--part', String(Math.abs(value) / most));
  return make('div', 'sum', make('dt', '', name), make('dd', '', make('span', 'number', signed(value)), make('span', 'track', fill)));
}

function total(logit: number): HTMLElement {
  return make('div', 'sum total', make('dt', '', 'score'), make('dd', '', make('span', 'number', signed(logit))));
}

function signed(value: number): string {
  return `${value < 0 ? '\u2212' : '+'}${Math.abs(value).toFixed(2)}`;
}

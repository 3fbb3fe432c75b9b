// Why a class: where in the picture its score comes from, and from which channels.

import type { ActivationMap, GoogLeNet } from 'googlenet-web';
import { html, render } from 'lit-html';
import { guard } from 'lit-html/directives/guard.js';
import { byId, share } from '../dom';
import { names, signed } from '../words';
import { overlay, type Shown } from '../inside/picture';
import { savePng } from '../inside/save';
import { descending } from '../inside/values';

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

/** Offers the classes, and chooses one. */
export function offer(labels: string[], index: number): void {
  // A thousand, and only another model has others.
  render(guard(labels, () => labels.map((label, at) => html`<option value=${at}>${names(label)[0]}</option>`)), select);
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
  render(order.map((channel) => html`<li><b>${channel}</b>${signed(channels[channel]!, 2)}</li>`), bestNames);
  const rows: [string, number][] = [['bias', bias], ...branches.map(({ branch, sum }): [string, number] => [branch, sum])];
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)));
  const number = (value: number) => html`<span class="number">${signed(value, 2)}</span>`;
  const row = ([name, value]: [string, number]) => html`<div class="sum">
    <dt>${name}</dt>
    <dd>${number(value)}<span class="track"><span class=${value < 0 ? 'fill against' : 'fill'} ${share('--part', Math.abs(value) / most)}></span></span></dd>
  </div>`;
  render(html`${rows.map(row)}<div class="sum total"><dt>score</dt><dd>${number(logit)}</dd></div>`, sums);
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

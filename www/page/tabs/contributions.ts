// The tab "Contributions": where in the picture a class's score comes from, and from which channels.

import type { ActivationMap } from 'googlenet-web';
import { html, render } from 'lit-html';
import { guard } from 'lit-html/directives/guard.js';
import { byId, share } from '../dom';
import { names, signed } from '../format';
import { overlay } from '../inside/overlay';
import { savePng } from '../inside/save';
import { descending } from '../inside/statistics';
import type { IsCurrent, Tab, View } from './tab';

const select = byId('class', HTMLSelectElement);
const part = byId('part', HTMLSelectElement);
const heat = byId('heat', HTMLCanvasElement);
const sums = byId('sums', HTMLElement);
const best = byId('best', HTMLCanvasElement);
const bestNames = byId('best-names', HTMLElement);

/** The number of channels that are shown. */
const CHANNELS = 8;

let view: View;

export const contributions: Tab = {
  panel: 'why',
  label: 'Contributions',
  connect: (section) => {
    view = section;
    select.addEventListener('change', () => view.showClass());
    part.addEventListener('change', () => view.showClass());
    byId('save-heat', HTMLButtonElement).addEventListener('click', () => savePng(heat, 'heat-map'));
  },
  showPicture: draw,
};

/** Offers the classes of a model, and chooses one. */
export function offerClasses(labels: string[], index: number): void {
  // There may be a thousand options, which change only with the model.
  render(guard(labels, () => labels.map((label, at) => html`<option value=${at}>${names(label)[0]}</option>`)), select);
  select.value = String(index);
}

/** Chooses a class by its index. */
export function chooseClass(index: number): void {
  select.value = String(index);
}

/** Returns the index of the chosen class. */
export function chosenClass(): number {
  return Number(select.value);
}

async function draw(isCurrent: IsCurrent): Promise<void> {
  const { net } = view;
  const index = chosenClass();
  const map = await net.cam(index);
  const { logit, bias, channels, branches } = await net.contributions(index);
  const last = net.layers.findLast(({ module }) => module !== null)?.layer ?? '';
  const order = descending(channels).slice(0, CHANNELS);
  const sheet = document.createElement('canvas');
  await net.draw(sheet, { layer: last, channels: order, columns: CHANNELS, scale: 8 });
  if (!isCurrent()) return;
  overlay(heat, { picture: view.shown(), map: heatMap(map, part.value), alpha: 1 });
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

/** Draws a class activation map, or that of one branch: positive values red, negative ones blue, zero transparent. */
function heatMap({ data, shape: [height, width], branches }: ActivationMap, which: string): HTMLCanvasElement {
  const values = branches.find(({ branch }) => branch === which)?.data ?? data;
  // All branches have the scale of the whole map, so that they can be compared.
  const most = data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  const image = new ImageData(width, height);
  values.forEach((value, cell) => {
    // The square makes the greatest values stand out.
    const share = Math.min(1, Math.abs(value) / most) ** 2;
    image.data.set([...(value > 0 ? [214, 40, 40] : [40, 90, 214]), Math.round(share * 200)], cell * 4);
  });
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  canvas.getContext('2d')?.putImageData(image, 0, 0);
  return canvas;
}

// The chosen module's branches, each a sheet of channel tiles, with a switch and a gain.

import type { Activation, Colormap, GoogLeNet, Layer } from 'googlenet-web';
import { byId, make } from '../dom';
import { save, npy } from './save';

/** How a sheet is drawn. */
interface Look {
  sort: 'index' | 'mean' | 'max';
  colormap: Colormap;
  range: 'channel' | 'sheet';
  show: 'branches' | 'reduce';
}

/** A sheet on the page, and which channel stands where. */
interface Sheet {
  layer: Layer;
  canvas: HTMLCanvasElement;
  order: number[];
  columns: number;
  values: Activation;
}

const lanes = byId('lanes', HTMLElement);
const form = byId('look', HTMLFormElement);
const tile = byId('tile', HTMLElement);
const large = byId('tile-large', HTMLCanvasElement);
const facts = byId('tile-facts', HTMLElement);
const bins = byId('tile-bins', HTMLElement);

let sheets: Sheet[] = [];
let chosen: { sheet: Sheet; at: number } | undefined;
let network: GoogLeNet | undefined;
let backdrop: () => CanvasImageSource | undefined = () => undefined;

/** Calls back when a sheet must be drawn anew, and with a branch's new gain. */
export function listen(redraw: () => void, gain: (branch: string, value: number) => void, picture: typeof backdrop): void {
  backdrop = picture;
  form.addEventListener('change', redraw);
  form.addEventListener('submit', (event) => event.preventDefault());
  lanes.addEventListener('input', ({ target }) => {
    if (!(target instanceof HTMLInputElement) || !target.dataset.branch) return;
    gain(target.dataset.branch, target.type === 'checkbox' ? Number(target.checked) : Number(target.value));
  });
  byId('save-png', HTMLButtonElement).addEventListener('click', () => {
    chosen?.sheet.canvas.toBlob((blob) => blob && save(blob, `${file(chosen!.sheet.layer)}.png`));
  });
  byId('save-npy', HTMLButtonElement).addEventListener('click', () => {
    if (chosen) save(npy(chosen.sheet.values), `${file(chosen.sheet.layer)}.npy`);
  });
}

/** Draws a module, or one layer; `still` says whether that is still wanted. */
export async function show(net: GoogLeNet, at: string, gains: Record<string, number>, still: () => boolean): Promise<void> {
  network = net;
  const look = Object.fromEntries(new FormData(form)) as unknown as Look;
  const next: Sheet[] = [];
  for (const layer of layersOf(net, at, look.show)) {
    const values = await net.activation(layer.layer);
    const order = sorted(values, look.sort);
    const columns = Math.ceil(Math.sqrt(order.length));
    const canvas = make('canvas', 'tiles');
    const scale = Math.max(1, Math.round(28 / layer.shape[1]));
    const { colormap, range } = look;
    await net.draw(canvas, { layer: layer.layer, channels: order, columns, scale, colormap, range });
    if (!still()) return;
    next.push({ layer, canvas, order, columns, values });
  }
  const before = chosen;
  sheets = next;
  // The gain that has the focus keeps it.
  const focused = document.activeElement instanceof HTMLInputElement ? document.activeElement.id : '';
  lanes.replaceChildren(...sheets.map((sheet) => lane(sheet, gains)));
  if (focused) document.getElementById(focused)?.focus();
  const same = sheets.find(({ layer }) => layer.layer === before?.sheet.layer.layer);
  const channel = before?.sheet.order[before.at];
  const first = sheets[0];
  if (same && channel !== undefined) await choose(same, same.order.indexOf(channel));
  else if (first) await choose(first, 0);
}

function layersOf(net: GoogLeNet, at: string, show: Look['show']): Layer[] {
  const output = net.layers.find(({ layer }) => layer === `${at}/output`);
  if (!output) return net.layers.filter(({ layer }) => layer === at);
  const branches = net.layers.filter(({ layer }) => output.inputs.includes(layer));
  if (show === 'branches') return branches;
  return net.layers.filter(({ module, layer }) => module === at && layer !== output.layer && !branches.some((b) => b.layer === layer));
}

/** The channels' numbers in the order in which they are shown. */
function sorted({ data, shape: [height, width, channels] }: Activation, by: Look['sort']): number[] {
  const order = Array.from({ length: channels }, (_, channel) => channel);
  if (by === 'index') return order;
  const measure = new Float64Array(channels).fill(by === 'max' ? -Infinity : 0);
  for (let cell = 0; cell < height * width; cell++) {
    for (let channel = 0; channel < channels; channel++) {
      const value = data[cell * channels + channel]!;
      measure[channel] = by === 'max' ? Math.max(measure[channel]!, value) : measure[channel]! + value;
    }
  }
  return order.sort((a, b) => measure[b]! - measure[a]!);
}

function lane(sheet: Sheet, gains: Record<string, number>): HTMLElement {
  const { layer, canvas } = sheet;
  const [height, width, channels] = layer.shape;
  const what = `${channels} channels, ${height}x${width}`;
  const short = layer.layer.replace(/^inception_\w+\//, '');
  canvas.tabIndex = 0;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${layer.layer}: ${what}. Arrow keys walk the channels.`);
  canvas.addEventListener('pointermove', (event) => void choose(sheet, under(sheet, event)));
  canvas.addEventListener('click', (event) => void choose(sheet, under(sheet, event)));
  canvas.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: sheet.columns, ArrowUp: -sheet.columns }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    void choose(sheet, (chosen?.sheet === sheet ? chosen.at : 0) + by);
  });
  const caption = make('figcaption', '', make('b', '', short), make('span', 'soft', what));
  const figure = make('figure', 'lane', caption);
  const gain = gains[layer.layer] ?? 1;
  if (/^inception_\w+\/(1x1|3x3|5x5|pool_proj)$/.test(layer.layer)) {
    const slider = Object.assign(make('input', ''), { type: 'range', min: '0', max: '2', step: '0.1', value: String(gain) });
    slider.id = `gain-${short}`;
    slider.dataset.branch = layer.layer;
    slider.setAttribute('aria-label', `Gain of ${layer.layer}`);
    const box = Object.assign(make('input', ''), { type: 'checkbox', checked: gain !== 0 });
    box.id = `on-${short}`;
    box.dataset.branch = layer.layer;
    figure.append(make('div', 'gain', make('label', '', box, ' on'), slider, make('output', '', `x${gain.toFixed(1)}`)));
    figure.classList.toggle('off', gain === 0);
  }
  figure.append(canvas);
  return figure;
}

/** Which tile the pointer is over. */
function under({ canvas, columns, order, layer }: Sheet, { offsetX, offsetY }: PointerEvent | MouseEvent): number {
  const zoom = canvas.width / canvas.clientWidth;
  const scale = Math.max(1, Math.round(28 / layer.shape[1]));
  const [column, row] = [
    Math.floor((offsetX * zoom) / (layer.shape[1] * scale + 1)),
    Math.floor((offsetY * zoom) / (layer.shape[0] * scale + 1)),
  ];
  return Math.min(order.length - 1, Math.max(0, row * columns + Math.min(column, columns - 1)));
}

/** Shows one channel large, over the picture, with its numbers. */
async function choose(sheet: Sheet, wanted: number): Promise<void> {
  const at = Math.min(sheet.order.length - 1, Math.max(0, wanted));
  if (chosen?.sheet === sheet && chosen.at === at) return;
  chosen = { sheet, at };
  const channel = sheet.order[at] ?? 0;
  const map = document.createElement('canvas');
  const { colormap } = Object.fromEntries(new FormData(form)) as unknown as Look;
  try {
    await network?.draw(map, { layer: sheet.layer.layer, channels: [channel], columns: 1, colormap });
  } catch {
    // The network is gone; the next one draws its own.
    return;
  }
  if (chosen.sheet !== sheet || chosen.at !== at) return;
  overlay(large, backdrop(), map, 0.65);
  const values = channelOf(sheet.values, channel);
  const [low, high, mean] = [Math.min(...values), Math.max(...values), values.reduce((a, b) => a + b, 0) / values.length];
  const peak = values.indexOf(high);
  const width = sheet.layer.shape[1];
  const active = values.filter((value) => value > 0).length / values.length;
  facts.replaceChildren(
    make('b', '', `${sheet.layer.layer}, channel ${channel}`),
    ` least ${low.toFixed(3)}, mean ${mean.toFixed(3)}, greatest ${high.toFixed(3)} in row ${Math.floor(peak / width)}, column ${peak % width}; `,
    `${Math.round(active * 100)} % of its cells are above zero.`,
  );
  histogram(values, low, high);
  tile.hidden = false;
}

function channelOf({ data, shape: [height, width, channels] }: Activation, channel: number): number[] {
  return Array.from({ length: height * width }, (_, cell) => data[cell * channels + channel]!);
}

/** How many cells have about which value. */
function histogram(values: number[], low: number, high: number): void {
  const counts = new Array<number>(24).fill(0);
  for (const value of values) {
    const bin = high > low ? Math.min(23, Math.floor(((value - low) / (high - low)) * 24)) : 0;
    counts[bin]!++;
  }
  const most = Math.max(...counts);
  const bar = (count: number) => {
    const one = make('span', '');
    one.style.setProperty('--part', String(count / most));
    return one;
  };
  bins.replaceChildren(...counts.map(bar));
  bins.setAttribute('aria-label', `Histogram of ${values.length} values from ${low.toFixed(3)} to ${high.toFixed(3)}`);
}

/** A map over the square of the picture that the network saw. */
export function overlay(canvas: HTMLCanvasElement, picture: CanvasImageSource | undefined, map: HTMLCanvasElement, alpha: number): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (picture instanceof HTMLImageElement && picture.naturalWidth > 0) {
    const side = Math.min(picture.naturalWidth, picture.naturalHeight);
    const [x, y] = [(picture.naturalWidth - side) / 2, (picture.naturalHeight - side) / 2];
    context.drawImage(picture, x, y, side, side, 0, 0, width, height);
  }
  context.globalAlpha = alpha;
  context.imageSmoothingQuality = 'high';
  context.drawImage(map, 0, 0, width, height);
  context.globalAlpha = 1;
}

function file({ layer }: Layer): string {
  return layer.replace(/\W+/g, '-');
}

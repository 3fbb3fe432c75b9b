// The contact sheets of the chosen module's branches, each with a switch and a gain.

import type { ChannelStats, Colormap, DrawOptions, GoogLeNet, Layer } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { live } from 'lit-html/directives/live.js';
import { byId, canvas, share } from '../dom';
import type { IsCurrent } from '../tabs/tab';
import { frame, overlay, type Picture } from './overlay';
import { npy, save, savePng } from './save';
import { descending, extent } from './statistics';

/** The options of the form, by which sheets are drawn. */
interface Look {
  sort: 'index' | 'mean' | 'max' | 'contribution';
  colormap: Colormap;
  range: 'channel' | 'sheet' | 'module';
  show: 'branches' | 'reduce';
}

/** A contact sheet on the page: `order` has the channel of each tile. */
interface Sheet {
  layer: Layer;
  canvas: HTMLCanvasElement;
  order: number[];
  columns: number;
  scale: number;
  range: NonNullable<DrawOptions['range']>;
}

/** What the sheets of a module depend on besides the form. */
export interface Context {
  gains: Record<string, number>;
  /** Says whether the channels of a layer contribute directly to the score. */
  contributes: (layer: Layer) => boolean;
  /** Returns the contributions of a layer's channels to the score of the chosen class. */
  contribution: (layer: Layer) => Promise<ArrayLike<number>>;
  isCurrent: IsCurrent;
}

const lanes = byId('lanes', HTMLElement);
const form = byId('look', HTMLFormElement);
const sort = byId('sort', HTMLSelectElement);
const byContribution = byId('by-contribution', HTMLOptionElement);
const tile = byId('tile', HTMLElement);
const large = byId('tile-large', HTMLCanvasElement);
const facts = byId('tile-facts', HTMLElement);
const bins = byId('tile-bins', HTMLElement);
const field = byId('tile-field', HTMLElement);

/** Matches the last layer of a branch, whose gain can be set. */
const BRANCH = /^inception_\w+\/(1x1|3x3|5x5|pool_proj)$/;

let sheets: Sheet[] = [];
/** The chosen tile: its sheet, and its index there. */
let chosen: { sheet: Sheet; at: number } | undefined;
/** The map in the large tile, on which receptive fields are drawn. */
let shown: { sheet: Sheet; map: HTMLCanvasElement; values: Float32Array } | undefined;
let network: GoogLeNet | undefined;
let backdrop: () => Picture | undefined = () => undefined;

/** The callbacks of the sheets. */
interface Callbacks {
  /** Is called when the sheets must be drawn again. */
  onLook: () => void;
  /** Is called with the new gain of a branch. */
  onGain: (branch: string, value: number) => void;
  /** Returns the picture on which the large tile is drawn. */
  shown: () => Picture | undefined;
}

/** Connects the form, the sheets and the buttons that save. */
export function connect({ onLook, onGain, shown }: Callbacks): void {
  backdrop = shown;
  form.addEventListener('change', onLook);
  form.addEventListener('submit', (event) => event.preventDefault());
  lanes.addEventListener('input', ({ target }) => {
    if (!(target instanceof HTMLInputElement) || !target.dataset.branch) return;
    onGain(target.dataset.branch, target.type === 'checkbox' ? Number(target.checked) : Number(target.value));
  });
  large.addEventListener('pointermove', (event) => showField(event));
  large.addEventListener('pointerleave', () => showField(undefined));
  byId('save-png', HTMLButtonElement).addEventListener('click', () => {
    if (chosen) savePng(chosen.sheet.canvas, file(chosen.sheet.layer));
  });
  byId('save-tile', HTMLButtonElement).addEventListener('click', () => {
    if (chosen) savePng(large, `${file(chosen.sheet.layer)}-${chosen.sheet.order[chosen.at]}`);
  });
  byId('save-npy', HTMLButtonElement).addEventListener('click', async () => {
    if (!chosen || !network) return;
    const { layer } = chosen.sheet;
    save(npy(await network.activation(layer.layer)), `${file(layer)}.npy`);
  });
}

/** Returns the last layers of a module's branches, in order; none for a layer outside of the modules. */
export function branchesOf(net: GoogLeNet, module: string): string[] {
  return net.layers.find(({ layer }) => layer === `${module}/output`)?.inputs ?? [];
}

/** Draws the sheets of a module, or of a layer outside of the modules. */
export async function show(net: GoogLeNet, module: string, context: Context): Promise<void> {
  network = net;
  const layers = layersOf(net, module, readForm().show);
  offerContribution(layers.every(context.contributes));
  const look = readForm();
  const stats = new Map(layers.map(({ layer }) => [layer, once(() => net.stats(layer))]));
  const range = look.range === 'module' ? extent(await Promise.all([...stats.values()].map((of) => of()))) : look.range;
  const next: Sheet[] = [];
  for (const layer of layers) {
    const order = await sorted(layer, { by: look.sort, stats: stats.get(layer.layer)!, context });
    const sheet = createSheet(layer, order, range);
    const { columns, scale } = sheet;
    await net.draw(sheet.canvas, { layer: layer.layer, channels: order, columns, scale, colormap: look.colormap, range });
    if (!context.isCurrent()) return;
    next.push(sheet);
  }
  await replace(next, context.gains);
}

/** Puts new sheets in the place of the old ones, and keeps the focus and the chosen channel. */
async function replace(next: Sheet[], gains: Record<string, number>): Promise<void> {
  const before = chosen;
  sheets = next;
  const focused = lanes.contains(document.activeElement) ? document.activeElement!.id : '';
  render(sheets.map((sheet) => lane(sheet, gains)), lanes);
  lanes.classList.toggle('single', sheets.length === 1);
  if (focused) document.getElementById(focused)?.focus();
  const same = sheets.find(({ layer }) => layer.layer === before?.sheet.layer.layer);
  const channel = before?.sheet.order[before.at];
  const first = sheets[0];
  if (same && channel !== undefined) await choose(same, same.order.indexOf(channel));
  else if (first) await choose(first, 0);
}

/** Reads the form. */
function readForm(): Look {
  return Object.fromEntries(new FormData(form)) as unknown as Look;
}

/** Offers the order by contribution, or removes that offer. */
function offerContribution(contribution: boolean): void {
  byContribution.disabled = !contribution;
  if (byContribution.disabled && byContribution.selected) sort.value = 'index';
}

/** Returns the layers of a module that have sheets: its branches, or its other layers. */
function layersOf(net: GoogLeNet, at: string, show: Look['show']): Layer[] {
  const output = net.layers.find(({ layer }) => layer === `${at}/output`);
  if (!output) return net.layers.filter(({ layer }) => layer === at);
  const branches = net.layers.filter(({ layer }) => output.inputs.includes(layer));
  if (show === 'branches') return branches;
  return net.layers.filter(({ module, layer }) => module === at && layer !== output.layer && !branches.some((b) => b.layer === layer));
}

/** What the order of a layer's channels depends on. */
interface Order {
  by: Look['sort'];
  stats: () => Promise<ChannelStats>;
  context: Context;
}

/** Returns the indices of a layer's channels in the order in which they are shown. */
async function sorted(layer: Layer, { by, stats, context }: Order): Promise<number[]> {
  if (by === 'contribution') return descending(await context.contribution(layer));
  if (by !== 'index') return descending((await stats())[by]);
  return Array.from({ length: layer.shape[2] }, (_, channel) => channel);
}

/** Returns a layer's name without its module. */
function shortName({ layer }: Layer): string {
  return layer.replace(/^inception_\w+\//, '');
}

/**
 * Creates an empty sheet. For screen readers it is a grid (https://www.w3.org/WAI/ARIA/apg/patterns/grid/), of which
 * the canvas contains only the chosen cell.
 */
function createSheet(layer: Layer, order: number[], range: Sheet['range']): Sheet {
  const [, width] = layer.shape;
  const columns = Math.ceil(Math.sqrt(order.length));
  const sheet: Sheet = {
    layer,
    canvas: canvas(html`<canvas
      class="tiles"
      id="sheet-${shortName(layer).replace(/\W/g, '-')}"
      tabindex="-1"
      role="grid"
      aria-label="Channels of ${layer.layer}"
      aria-rowcount=${Math.ceil(order.length / columns)}
      aria-colcount=${columns}
      @pointermove=${(event: PointerEvent) => void choose(sheet, tileAt(sheet, event))}
      @click=${(event: MouseEvent) => {
        void choose(sheet, tileAt(sheet, event));
        sheet.canvas.focus({ preventScroll: true });
      }}
      @keydown=${(event: KeyboardEvent) => moveByKey(sheet, event)}
    ></canvas>`),
    order,
    columns,
    scale: Math.max(1, Math.round((width === 1 ? 6 : 28) / width)),
    range,
  };
  describe(sheet, 0, '');
  return sheet;
}

/** Describes the chosen cell of a sheet for screen readers. */
function describe({ canvas, columns, order }: Sheet, at: number, words: string): void {
  const id = `${canvas.id}-cell`;
  canvas.setAttribute('aria-activedescendant', id);
  const cell = html`<div role="row" aria-rowindex=${Math.floor(at / columns) + 1}>
    <div role="gridcell" id=${id} aria-colindex=${(at % columns) + 1}>channel ${order[at] ?? 0}${words}</div>
  </div>`;
  render(cell, canvas);
}

function lane({ layer, canvas }: Sheet, gains: Record<string, number>): TemplateResult {
  const [height, width, channels] = layer.shape;
  const branch = layer.layer;
  const short = shortName(layer);
  const gain = gains[branch] ?? 1;
  const controls = html`<div class="gain">
    <label><input type="checkbox" id="on-${short}" data-branch=${branch} .checked=${live(gain !== 0)}> on</label>
    <input type="range" min="0" max="2" step="0.1" id="gain-${short}" data-branch=${branch} aria-label="Gain of ${branch}" .value=${live(String(gain))}>
    <output>x${gain.toFixed(1)}</output>
  </div>`;
  const weighs = BRANCH.test(branch);
  return html`<figure class=${weighs && gain === 0 ? 'lane off' : 'lane'}>
    <figcaption><b>${short}</b><span class="soft">${channels} of ${height}\u00d7${width}</span></figcaption>
    ${weighs ? controls : nothing} ${canvas}
  </figure>`;
}

/** Moves from tile to tile by the arrow keys, and to the next sheet at the edge. All sheets are one tab stop. */
function moveByKey(sheet: Sheet, event: KeyboardEvent): void {
  const { columns, order } = sheet;
  const here = chosen?.sheet === sheet ? chosen.at : 0;
  const last = order.length - 1;
  const column = here % columns;
  const neighbour = sheets[sheets.indexOf(sheet) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? 0)];
  const leaves = (event.key === 'ArrowRight' && (column === columns - 1 || here === last)) || (event.key === 'ArrowLeft' && column === 0);
  const [first, end] = event.ctrlKey ? [0, last] : [here - column, Math.min(last, here - column + columns - 1)];
  const to = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + columns, ArrowUp: here - columns, Home: first, End: end }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (leaves && neighbour) {
    const row = Math.floor(here / columns);
    const side = event.key === 'ArrowRight' ? 0 : neighbour.columns - 1;
    void choose(neighbour, row * neighbour.columns + side).then(() => neighbour.canvas.focus());
  } else if (to >= 0 && to <= last) void choose(sheet, to);
}

/** Returns the index of the tile under the pointer. */
function tileAt({ canvas, columns, order, layer, scale }: Sheet, { offsetX, offsetY }: PointerEvent | MouseEvent): number {
  const zoom = canvas.width / canvas.clientWidth;
  const [column, row] = [
    Math.floor((offsetX * zoom) / (layer.shape[1] * scale + 1)),
    Math.floor((offsetY * zoom) / (layer.shape[0] * scale + 1)),
  ];
  return Math.min(order.length - 1, Math.max(0, row * columns + Math.min(column, columns - 1)));
}

/** Chooses a tile: shows its channel enlarged over the picture, with its statistics. */
async function choose(sheet: Sheet, wanted: number): Promise<void> {
  const at = Math.min(sheet.order.length - 1, Math.max(0, wanted));
  if (chosen?.sheet === sheet && chosen.at === at) return;
  const mine = (chosen = { sheet, at });
  for (const { canvas } of sheets) canvas.tabIndex = canvas === sheet.canvas ? 0 : -1;
  const channel = sheet.order[at] ?? 0;
  const map = document.createElement('canvas');
  const { range, layer: { layer } } = sheet;
  let values: Float32Array;
  try {
    if (!network) return;
    const drawn = network.draw(map, { layer, channels: [channel], columns: 1, colormap: readForm().colormap, range });
    [values] = await Promise.all([network.channel(layer, channel), drawn]);
  } catch {
    // The network was freed, and the next one draws its own sheets.
    return;
  }
  if (chosen !== mine) return;
  shown = { sheet, map, values };
  overlay(large, { picture: backdrop(), map, alpha: 0.65 });
  showField(undefined);
  const [low, high, mean] = [Math.min(...values), Math.max(...values), values.reduce((a, b) => a + b, 0) / values.length];
  const peak = values.indexOf(high);
  const width = sheet.layer.shape[1];
  const active = values.filter((value) => value > 0).length / values.length;
  const numbers = `least ${low.toFixed(3)}, mean ${mean.toFixed(3)}, greatest ${high.toFixed(3)} in row ${Math.floor(peak / width)}, column ${peak % width}`;
  render(html`<b>${sheet.layer.layer}, channel ${channel}</b> ${numbers}; ${Math.round(active * 100)} % of its cells are above zero.`, facts);
  describe(sheet, at, `, mean ${mean.toFixed(3)}, greatest ${high.toFixed(3)}`);
  histogram(values, low, high);
  tile.hidden = false;
}

/** Frames the receptive field of the cell under the pointer; without a pointer, says how large it is for any cell. */
function showField(pointer: PointerEvent | undefined): void {
  if (!shown || !network) return;
  const { sheet: { layer }, map, values } = shown;
  const { size } = network.info;
  const [height, width] = layer.shape;
  const [tall, wide] = layer.field;
  const all = tall >= size && wide >= size;
  overlay(large, { picture: backdrop(), map, alpha: 0.65 });
  if (!pointer) {
    field.textContent = `A cell sees ${all ? 'the whole image' : `${tall}x${wide} of ${size}x${size} pixels`}.`;
    return;
  }
  const row = Math.min(height - 1, Math.max(0, Math.floor((pointer.offsetY / large.clientHeight) * height)));
  const column = Math.min(width - 1, Math.max(0, Math.floor((pointer.offsetX / large.clientWidth) * width)));
  const [top, left] = [layer.start[0] + row * layer.jump[0], layer.start[1] + column * layer.jump[1]];
  const within = (at: number) => Math.min(size, Math.max(0, at));
  const [above, below, before, after] = [within(top), within(top + tall), within(left), within(left + wide)];
  frame(large, { left: before / size, top: above / size, width: (after - before) / size, height: (below - above) / size });
  const whole = after - before === size && below - above === size;
  const sees = whole ? 'the whole image' : `rows ${above} to ${below - 1}, columns ${before} to ${after - 1}`;
  field.textContent = `Row ${row}, column ${column}: ${values[row * width + column]!.toFixed(3)}; sees ${sees}.`;
}

/** Draws a histogram of a channel's values. */
function histogram(values: Float32Array, low: number, high: number): void {
  const counts = new Array<number>(24).fill(0);
  for (const value of values) {
    const bin = high > low ? Math.min(23, Math.floor(((value - low) / (high - low)) * 24)) : 0;
    counts[bin]!++;
  }
  const most = Math.max(...counts);
  render(counts.map((count) => html`<span ${share('--part', count / most)}></span>`), bins);
  bins.setAttribute('aria-label', `Histogram of ${values.length} values from ${low.toFixed(3)} to ${high.toFixed(3)}`);
}

/** Returns a file name for a layer. */
function file({ layer }: Layer): string {
  return layer.replace(/\W+/g, '-');
}

/** Returns a function that calls another one only the first time, and keeps its result. */
function once<T>(compute: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => (result ??= compute());
}

// The network's map, from its own layers: the stem, nine modules of four lanes, the head.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { live } from 'lit-html/directives/live.js';
import { byId, canvas, share } from '../dom';
import { percent } from '../words';

const map = byId('map', HTMLElement);

/** Calls back with the module or layer that a person chooses, and with a branch's new gain. */
export function listen(choose: (at: string) => void, weigh: (branch: string, gain: number) => void): void {
  map.addEventListener('click', ({ target }) => {
    if (!(target instanceof Element) || target.closest('input')) return;
    const at = target.closest<HTMLElement>('[data-at]') ?? target.closest('.module')?.querySelector<HTMLElement>('[data-at]');
    if (at?.dataset.at !== undefined) choose(at.dataset.at);
  });
  map.addEventListener('change', ({ target }) => {
    if (target instanceof HTMLInputElement && target.dataset.branch) weigh(target.dataset.branch, Number(target.checked));
  });
}

/** What can be chosen, in order. */
export function nodes(net: GoogLeNet): string[] {
  return net.layers.filter(isNode).map(({ layer, module }) => module ?? layer);
}

/** A module is shown by its output; an auxiliary head's layers are no part of the way to the answer. */
function isNode({ layer, module }: Layer): boolean {
  return module ? layer.endsWith('/output') : !/^loss[12]/.test(layer);
}

/** What the map shows. */
export interface State {
  /** Counts the pictures: another is drawn anew. */
  picture: number;
  gains: Record<string, number>;
  times: StepTime[];
}

/** A branch in the map, with its strongest channel and its share of what the module hands on as they were last drawn. */
interface Lane {
  layer: Layer;
  thumb: HTMLCanvasElement;
  best: number;
  part: number | undefined;
}

/** A module in the map, or a layer that is in none. */
interface Place {
  at: string;
  layer: Layer;
  lanes: Lane[];
  /** What hovering over it tells. */
  facts: string;
  /** Of what state it was drawn. */
  drawn: string;
}

let network: GoogLeNet | undefined;
let columns: Place[][] = [];
let chosen = '';
let gains: Record<string, number> = {};

/**
 * Brings the map up to date; each lane has its strongest channel, its share of what the module hands on, and a switch.
 * A module is drawn anew only where the picture is another, or a gain in it or upstream of it.
 */
export async function show(net: GoogLeNet, { picture, gains: now, times }: State, still: () => boolean): Promise<void> {
  if (net !== network) build(net);
  const places = columns.flat();
  for (const place of places) place.facts = facts(net, place, times);
  mark(chosen, now);
  let state = String(picture);
  for (const place of places.filter(({ layer }) => layer.module)) {
    state += place.layer.inputs.map((branch) => ` ${now[branch] ?? 1}`).join('');
    if (place.drawn === state) continue;
    await draw(net, place);
    if (!still()) return;
    place.drawn = state;
    update();
  }
}

/** The map of a network that has run nothing. */
function build(net: GoogLeNet): void {
  network = net;
  columns = [];
  for (const layer of net.layers.filter(isNode)) {
    const lanes = (layer.module ? layer.inputs : []).map((input) => {
      const thumb = canvas(html`<canvas class="thumb" aria-hidden="true"></canvas>`);
      return { layer: net.layers.find((one) => one.layer === input)!, thumb, best: 0, part: undefined };
    });
    const place = { at: layer.module ?? layer.layer, layer, lanes, facts: '', drawn: '' };
    const beside = columns.at(-1);
    if (!beside || layer.module || beside[0]?.layer.module) columns.push([place]);
    else beside.push(place);
  }
}

/** Marks what is chosen, and which branches are off. */
export function mark(at: string, now: Record<string, number>): void {
  [chosen, gains] = [at, now];
  update();
}

function update(): void {
  render(columns.map((places) => html`<li class=${places[0]!.layer.module ? 'module' : 'stem'}>${places.map(node)}</li>`), map);
}

function node({ at, layer: { layer, module, shape }, lanes, facts }: Place): TemplateResult {
  const name = module ? module.replace('inception_', '') : layer.replace(/^loss3\/|\/(\dx\d_s\d|3x3)$/, '');
  return html`
    <button type="button" class="node" data-at=${at} title=${facts} aria-pressed=${at === chosen}>
      <b>${name}</b><span class="soft">${shape.join('\u00d7')}</span>
    </button>
    ${lanes.map((one) => lane(one, module))}
  `;
}

/** Only the chosen module's switches are in the tab order. */
function lane({ layer: { layer, branch }, thumb, best, part }: Lane, module: string | null): TemplateResult {
  const on = gains[layer] !== 0;
  const told = part === undefined ? nothing : `${layer}: channel ${best} is its strongest; ${percent(part)} of what ${module} hands on`;
  return html`<div class=${on ? 'lane-row' : 'lane-row off'} title=${told} ${share('--part', part ?? 0)}>
    ${thumb}
    <span class="lane-share">
      <span class="lane-name">${branch}</span>
      <span class="lane-part">${part === undefined ? nothing : `${Math.round(part * 100)}%`}</span>
      <span class="track"><span class="fill"></span></span>
    </span>
    <input type="checkbox" data-branch=${layer} aria-label="${layer} on" tabindex=${module === chosen ? 0 : -1} .checked=${live(on)}>
  </div>`;
}

/** Brings what is chosen into sight, where the map is wider than the window. */
export function reveal(at: string): void {
  map.querySelector(`[data-at="${CSS.escape(at)}"]`)?.closest('li')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

function facts(net: GoogLeNet, { at, layer }: Place, times: StepTime[]): string {
  const { module, kind, shape, field } = layer;
  const own = module ? net.layers.filter((l) => l.module === module) : [layer];
  const total = (of: 'macs' | 'params') => own.reduce((sum, l) => sum + l[of], 0).toLocaleString('en');
  const ms = times.filter((step) => own.some((l) => l.layer === step.node)).reduce((sum, step) => sum + step.ms, 0);
  const all = [`${at}: ${kind}`, `gives ${shape.join('x')}`, `${total('params')} parameters`, `${total('macs')} multiply-adds`];
  all.push(`sees ${field.join('x')} pixels of ${net.info.size}x${net.info.size}`);
  if (ms > 0) all.push(`${ms.toFixed(2)} ms`);
  return all.join('\n');
}

/** Draws each lane's strongest channel, and finds its share. */
async function draw(net: GoogLeNet, { layer: { layer }, lanes }: Place): Promise<void> {
  const { mean: strength, max: most } = await net.stats(layer);
  const total = strength.reduce((a, b) => a + b, 0);
  let from = 0;
  for (const lane of lanes) {
    const to = from + lane.layer.shape[2];
    let best = from;
    let sum = 0;
    for (let channel = from; channel < to; channel++) {
      sum += strength[channel]!;
      if (most[channel]! > most[best]!) best = channel;
    }
    await net.draw(lane.thumb, { layer, channels: [best], columns: 1 });
    lane.best = best - from;
    lane.part = total > 0 ? sum / total : 0;
    from = to;
  }
}

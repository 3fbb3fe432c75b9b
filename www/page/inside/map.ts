// The map of the network, drawn from its layers: the stem, nine modules of four branches, and the classifier.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { live } from 'lit-html/directives/live.js';
import { byId, canvas, share } from '../dom';
import { percent } from '../format';
import type { IsCurrent } from '../tabs/tab';

const map = byId('map', HTMLElement);

/** The callbacks of the map. */
interface Callbacks {
  /** Is called with the module or layer that the user chooses. */
  onChoice: (at: string) => void;
  /** Is called with the new gain of a branch. */
  onGain: (branch: string, gain: number) => void;
}

/** Connects the map. */
export function connect({ onChoice, onGain }: Callbacks): void {
  map.addEventListener('click', ({ target }) => {
    if (!(target instanceof Element) || target.closest('input')) return;
    const at = target.closest<HTMLElement>('[data-at]') ?? target.closest('.module')?.querySelector<HTMLElement>('[data-at]');
    if (at?.dataset.at !== undefined) onChoice(at.dataset.at);
  });
  map.addEventListener('change', ({ target }) => {
    if (target instanceof HTMLInputElement && target.dataset.branch) onGain(target.dataset.branch, Number(target.checked));
  });
}

/** Returns the modules and layers that can be chosen, in order. */
export function nodes(net: GoogLeNet): string[] {
  return net.layers.filter(isNode).map(({ layer, module }) => module ?? layer);
}

/** Says whether a layer is shown: a module by its output, and no layer of an auxiliary head. */
function isNode({ layer, module }: Layer): boolean {
  return module ? layer.endsWith('/output') : !/^loss[12]/.test(layer);
}

/** What the map depends on. */
export interface State {
  /** The number of the picture, by which another picture is recognised. */
  picture: number;
  gains: Record<string, number>;
  times: StepTime[];
}

/** A branch in the map: its strongest channel and its share of the module's output, as they were last drawn. */
interface Lane {
  layer: Layer;
  thumb: HTMLCanvasElement;
  best: number;
  part: number | undefined;
}

/** A module in the map, or a layer outside of the modules. */
interface Place {
  at: string;
  layer: Layer;
  lanes: Lane[];
  /** The text that is shown while the pointer is over it. */
  facts: string;
  /** The state in which it was last drawn: the picture, and the gains in it and upstream. */
  drawn: string;
}

let network: GoogLeNet | undefined;
let columns: Place[][] = [];
let chosen = '';
let gains: Record<string, number> = {};

/**
 * Updates the map. Each branch has its strongest channel, its share of the module's output, and a switch. A module is
 * drawn again only where the picture has changed, or a gain in it or upstream of it.
 */
export async function show(net: GoogLeNet, { picture, gains: now, times }: State, isCurrent: IsCurrent): Promise<void> {
  if (net !== network) build(net);
  const places = columns.flat();
  for (const place of places) place.facts = facts(net, place, times);
  mark(chosen, now);
  let state = String(picture);
  for (const place of places.filter(({ layer }) => layer.module)) {
    state += place.layer.inputs.map((branch) => ` ${now[branch] ?? 1}`).join('');
    if (place.drawn === state) continue;
    await draw(net, place);
    if (!isCurrent()) return;
    place.drawn = state;
    update();
  }
}

/** Creates the map of a network that has not run yet. */
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

/** Marks the chosen module or layer, and the branches that are off. */
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

/** Draws a branch. Only the switches of the chosen module are tab stops. */
function lane({ layer: { layer, branch }, thumb, best, part }: Lane, module: string | null): TemplateResult {
  const on = gains[layer] !== 0;
  const title = part === undefined ? nothing : `${layer}: channel ${best} is its strongest; ${percent(part)} of ${module}'s output`;
  return html`<div class=${on ? 'lane-row' : 'lane-row off'} title=${title} ${share('--part', part ?? 0)}>
    ${thumb}
    <span class="lane-share">
      <span class="lane-name">${branch}</span>
      <span class="lane-part">${part === undefined ? nothing : `${Math.round(part * 100)}%`}</span>
      <span class="track"><span class="fill"></span></span>
    </span>
    <input type="checkbox" data-branch=${layer} aria-label="${layer} on" tabindex=${module === chosen ? 0 : -1} .checked=${live(on)}>
  </div>`;
}

/** Scrolls to a module or layer, where the map is wider than the window. */
export function reveal(at: string): void {
  map.querySelector(`[data-at="${CSS.escape(at)}"]`)?.closest('li')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

/** Returns the text that is shown while the pointer is over a module or layer. */
function facts(net: GoogLeNet, { at, layer }: Place, times: StepTime[]): string {
  const { module, kind, shape, field } = layer;
  const own = module ? net.layers.filter((l) => l.module === module) : [layer];
  const total = (of: 'macs' | 'params') => own.reduce((sum, l) => sum + l[of], 0).toLocaleString('en');
  const ms = times.filter((step) => own.some((l) => l.layer === step.node)).reduce((sum, step) => sum + step.ms, 0);
  const all = [`${at}: ${kind}`, `output ${shape.join('x')}`, `${total('params')} parameters`, `${total('macs')} multiply-adds`];
  all.push(`sees ${field.join('x')} pixels of ${net.info.size}x${net.info.size}`);
  if (ms > 0) all.push(`${ms.toFixed(2)} ms`);
  return all.join('\n');
}

/** Draws the strongest channel of each branch, and computes the branch's share of the module's output. */
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

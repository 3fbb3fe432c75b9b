// The network's map, from its own layers: the stem, nine modules of four lanes, the head.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { byId, make } from '../dom';
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

/** A module's place in the map, and of what state it was drawn. */
interface Module {
  output: Layer;
  item: HTMLElement;
  drawn: string;
}

let network: GoogLeNet | undefined;
let modules: Module[] = [];

/**
 * Brings the map up to date; each lane has its strongest channel, its share of what the module hands on, and a switch.
 * A module is drawn anew only where the picture is another, or a gain in it or upstream of it.
 */
export async function show(net: GoogLeNet, { picture, gains, times }: State, still: () => boolean): Promise<void> {
  if (net !== network) build(net);
  describe(net, times);
  for (const box of map.querySelectorAll<HTMLInputElement>('[data-branch]')) {
    box.checked = gains[box.dataset.branch!] !== 0;
    box.closest('.lane-row')!.classList.toggle('off', !box.checked);
  }
  let state = String(picture);
  for (const module of modules) {
    state += module.output.inputs.map((branch) => ` ${gains[branch] ?? 1}`).join('');
    if (module.drawn === state) continue;
    await draw(net, module);
    if (!still()) return;
    module.drawn = state;
  }
}

/** The map of a network that has run nothing. */
function build(net: GoogLeNet): void {
  network = net;
  modules = [];
  const items: HTMLElement[] = [];
  let column: HTMLElement | undefined;
  for (const layer of net.layers.filter(isNode)) {
    if (layer.module) {
      column = undefined;
      const item = make('li', 'module', node(layer, layer.module.replace('inception_', '')), ...layer.inputs.map((branch) => lane(net, branch)));
      items.push(item);
      modules.push({ output: layer, item, drawn: '' });
    } else {
      if (!column) items.push((column = make('li', 'stem')));
      column.append(node(layer, layer.layer.replace(/^loss3\/|\/(\dx\d_s\d|3x3)$/, '')));
    }
  }
  map.replaceChildren(...items);
}

/** Marks what is chosen; only its switches are in the tab order. */
export function mark(at: string): void {
  for (const node of map.querySelectorAll<HTMLElement>('[data-at]')) {
    const chosen = node.dataset.at === at;
    node.setAttribute('aria-pressed', String(chosen));
    for (const box of node.closest('.module')?.querySelectorAll('input') ?? []) box.tabIndex = chosen ? 0 : -1;
  }
}

/** Brings what is chosen into sight, where the map is wider than the window. */
export function reveal(at: string): void {
  map.querySelector(`[data-at="${CSS.escape(at)}"]`)?.closest('li')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

function node({ layer, module, shape }: Layer, name: string): HTMLButtonElement {
  const button = make('button', 'node', make('b', '', name), make('span', 'soft', shape.join('\u00d7')));
  button.type = 'button';
  button.dataset.at = module ?? layer;
  return button;
}

function lane(net: GoogLeNet, input: string): HTMLElement {
  const thumb = make('canvas', 'thumb');
  thumb.setAttribute('aria-hidden', 'true');
  const box = Object.assign(make('input', ''), { type: 'checkbox', checked: true, tabIndex: -1 });
  box.dataset.branch = input;
  box.setAttribute('aria-label', `${input} on`);
  const name = net.layers.find(({ layer }) => layer === input)?.branch ?? '';
  const share = make('span', 'lane-share', make('span', 'lane-name', name), make('span', 'lane-part'), make('span', 'track', make('span', 'fill')));
  return make('div', 'lane-row', thumb, share, box);
}

/** What hovering over a node tells. */
function describe(net: GoogLeNet, times: StepTime[]): void {
  for (const layer of net.layers.filter(isNode)) {
    const { module, kind, shape, field } = layer;
    const own = module ? net.layers.filter((l) => l.module === module) : [layer];
    const total = (of: 'macs' | 'params') => own.reduce((sum, l) => sum + l[of], 0).toLocaleString('en');
    const ms = times.filter((step) => own.some((l) => l.layer === step.node)).reduce((sum, step) => sum + step.ms, 0);
    const at = module ?? layer.layer;
    const facts = [`${at}: ${kind}`, `gives ${shape.join('x')}`, `${total('params')} parameters`, `${total('macs')} multiply-adds`];
    facts.push(`sees ${field.join('x')} pixels of ${net.info.size}x${net.info.size}`);
    if (ms > 0) facts.push(`${ms.toFixed(2)} ms`);
    map.querySelector<HTMLElement>(`[data-at="${CSS.escape(at)}"]`)!.title = facts.join('\n');
  }
}

/** Draws each lane's strongest channel, and its share. */
async function draw(net: GoogLeNet, { output, item }: Module): Promise<void> {
  const { mean: strength, max: most } = await net.stats(output.layer);
  const total = strength.reduce((a, b) => a + b, 0);
  let from = 0;
  for (const [at, input] of output.inputs.entries()) {
    const row = item.querySelectorAll<HTMLElement>('.lane-row')[at]!;
    const to = from + net.layers.find(({ layer }) => layer === input)!.shape[2];
    let best = from;
    let sum = 0;
    for (let channel = from; channel < to; channel++) {
      sum += strength[channel]!;
      if (most[channel]! > most[best]!) best = channel;
    }
    await net.draw(row.querySelector('canvas')!, { layer: output.layer, channels: [best], columns: 1 });
    const part = total > 0 ? sum / total : 0;
    row.style.setProperty('--part', String(part));
    row.querySelector('.lane-part')!.textContent = `${Math.round(part * 100)}%`;
    row.title = `${input}: channel ${best - from} is its strongest; ${percent(part)} of what ${output.module} hands on`;
    from = to;
  }
}

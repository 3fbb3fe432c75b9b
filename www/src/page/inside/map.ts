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

/** Draws the map; each lane has its strongest channel, its share of what the module hands on, and a switch. */
export async function show(net: GoogLeNet, gains: Record<string, number>, times: StepTime[], still: () => boolean): Promise<void> {
  const items: HTMLElement[] = [];
  let column: HTMLElement | undefined;
  for (const layer of net.layers.filter(isNode)) {
    if (layer.module) {
      column = undefined;
      items.push(await module(net, layer, gains, times));
      if (!still()) return;
    } else {
      if (!column) items.push((column = make('li', 'stem')));
      column.append(node(net, layer, layer.layer.replace(/^loss3\/|\/(\dx\d_s\d|3x3)$/, ''), times));
    }
  }
  const focused = document.activeElement instanceof HTMLElement && map.contains(document.activeElement) ? document.activeElement.dataset : {};
  const scrolled = map.scrollLeft;
  map.replaceChildren(...items);
  map.scrollLeft = scrolled;
  for (const name of ['at', 'branch'] as const) {
    if (focused[name]) map.querySelector<HTMLElement>(`[data-${name}="${CSS.escape(focused[name])}"]`)?.focus();
  }
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

function node(net: GoogLeNet, layer: Layer, name: string, times: StepTime[]): HTMLButtonElement {
  const { module, kind, shape } = layer;
  const own = module ? net.layers.filter((l) => l.module === module) : [layer];
  const total = (of: 'macs' | 'params') => own.reduce((sum, l) => sum + l[of], 0).toLocaleString('en');
  const ms = times.filter((step) => own.some((l) => l.layer === step.node)).reduce((sum, step) => sum + step.ms, 0);
  const button = make('button', 'node', make('b', '', name), make('span', 'soft', shape.join('\u00d7')));
  button.type = 'button';
  button.dataset.at = module ?? layer.layer;
  const facts = [`${module ?? layer.layer}: ${kind}`, `gives ${shape.join('x')}`, `${total('params')} parameters`, `${total('macs')} multiply-adds`];
  facts.push(`sees ${layer.field.join('x')} pixels of ${net.info.size}x${net.info.size}`);
  if (ms > 0) facts.push(`${ms.toFixed(2)} ms`);
  button.title = facts.join('\n');
  return button;
}

async function module(net: GoogLeNet, output: Layer, gains: Record<string, number>, times: StepTime[]): Promise<HTMLElement> {
  const { mean: strength, max: most } = await net.stats(output.layer);
  const total = strength.reduce((a, b) => a + b, 0);
  const item = make('li', 'module', node(net, output, output.module!.replace('inception_', ''), times));
  let from = 0;
  for (const input of output.inputs) {
    const branch = net.layers.find(({ layer }) => layer === input)!;
    const to = from + branch.shape[2];
    let best = from;
    let sum = 0;
    for (let channel = from; channel < to; channel++) {
      sum += strength[channel]!;
      if (most[channel]! > most[best]!) best = channel;
    }
    const thumb = make('canvas', 'thumb');
    thumb.setAttribute('aria-hidden', 'true');
    await net.draw(thumb, { layer: output.layer, channels: [best], columns: 1 });
    const part = total > 0 ? sum / total : 0;
    const box = Object.assign(make('input', ''), { type: 'checkbox', checked: gains[input] !== 0, tabIndex: -1 });
    box.dataset.branch = input;
    box.setAttribute('aria-label', `${input} on`);
    const share = make('span', 'lane-share', make('span', 'lane-name', branch.branch ?? ''), make('span', 'lane-part', `${Math.round(part * 100)}%`), make('span', 'track', make('span', 'fill')));
    share.style.setProperty('--part', String(part));
    const lane = make('div', 'lane-row', thumb, share, box);
    lane.title = `${input}: channel ${best - from} is its strongest; ${percent(part)} of what ${output.module} hands on`;
    lane.classList.toggle('off', gains[input] === 0);
    item.append(lane);
    from = to;
  }
  return item;
}

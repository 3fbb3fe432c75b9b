// Inside the network: its map, the chosen module's branches, and why it answers as it does.

import { GoogLeNetError, type Ablation, type Answer, type GoogLeNet } from 'googlenet-web';
import { byId, make } from './dom';
import * as branches from './inside/branches';
import { save } from './inside/save';
import * as tables from './inside/tables';
import * as why from './inside/why';
import { names, percent } from './words';

const section = byId('inside', HTMLElement);
const map = byId('map', HTMLElement);
const changed = byId('changed', HTMLElement);
const restore = byId('restore', HTMLButtonElement);
const matrix = byId('matrix', HTMLTableElement);
const matrixRun = byId('matrix-run', HTMLButtonElement);
const matrixProgress = byId('matrix-progress', HTMLElement);
const preview = byId('preview', HTMLImageElement);

let net: GoogLeNet | undefined;
let picture: File | undefined;
let answer: Answer | undefined;
let at = 'inception_3a';
let gains: Record<string, number> = {};
/** Counts what is asked for: what comes of anything but the latest is not shown. */
let turn = 0;
let onAnswer: (answer: Answer | Ablation) => void = () => {};
let onError: (error: unknown) => void = () => {};

/** Calls back with the answer of a network whose branches are weighed, and with what went wrong. */
export function listen(answered: typeof onAnswer, complain: typeof onError): void {
  [onAnswer, onError] = [answered, complain];
  recall();
  branches.listen(() => void attempt(showBranches), weigh, () => (preview.complete ? preview : undefined));
  why.listen(() => void attempt(showWhy));
  tables.listen(() => void attempt(measure));
  map.addEventListener('click', ({ target }) => {
    const wanted = target instanceof Element ? target.closest<HTMLElement>('[data-at]')?.dataset.at : undefined;
    if (wanted === undefined) return;
    at = wanted;
    mark();
    remember();
    void attempt(showBranches);
  });
  restore.addEventListener('click', () => {
    gains = {};
    void attempt(ablate);
  });
  matrixRun.addEventListener('click', () => void attempt(fillMatrix));
  byId('save-answer', HTMLButtonElement).addEventListener('click', () => {
    const text = JSON.stringify({ model: net?.info.model, backend: net?.info.backend, gains, ...answer }, null, 2);
    save(new Blob([text], { type: 'application/json' }), 'answer.json');
  });
}

/** A picture was classified. */
export function seen(network: GoogLeNet, file: File, result: Answer): void {
  [net, picture, answer] = [network, file, result];
  section.hidden = false;
  const wanted = new URLSearchParams(location.hash.slice(1)).get('class');
  why.offer(net.info.labels, wanted !== null && Number(wanted) in net.info.labels ? Number(wanted) : result.top[0]?.index ?? 0);
  // A link may name what this network has not.
  const known = new Set(net.layers.map(({ layer }) => layer));
  gains = Object.fromEntries(Object.entries(gains).filter(([branch]) => known.has(branch)));
  if (!net.layers.some(({ layer }) => layer === at || layer === `${at}/output`)) at = 'inception_3a';
  tables.show(net);
  matrix.replaceChildren();
  remember();
  void attempt(Object.keys(gains).length > 0 ? ablate : showAll);
}

/** There is nothing to see. */
export function hide(): void {
  turn++;
  net = undefined;
  section.hidden = true;
}

async function showAll(still: () => boolean): Promise<void> {
  await showBranches(still);
  await showMap(still);
  await showWhy(still);
}

/** Draws the map from the network's own layers, with each branch's share of what its module hands on. */
async function showMap(still: () => boolean): Promise<void> {
  const network = net!;
  const nodes: HTMLElement[] = [];
  for (const { layer, module, shape, kind, inputs, macs } of network.layers) {
    if (module && !layer.endsWith('/output')) continue;
    const single = module === null;
    // The head's vectors have no map to look at.
    if (single && (shape[0] === 1 || kind === 'input')) continue;
    const node = make('button', single ? 'node' : 'node module');
    node.type = 'button';
    node.dataset.at = single ? layer : module;
    const name = single ? layer.replace(/\/.*/, '') : module.replace('inception_', '');
    node.append(make('b', '', name), make('span', 'soft', shape.join('x')));
    const own = single ? macs : network.layers.reduce((sum, l) => sum + (l.module === module ? l.macs : 0), 0);
    node.title = `${single ? layer : module}: ${kind}, ${shape.join('x')}, ${own.toLocaleString('en')} multiply-adds`;
    if (!single) {
      const { data } = await network.activation(layer);
      if (!still()) return;
      const sums = channelSums(data, shape[2]);
      const total = sums.reduce((a, b) => a + b, 0);
      let from = 0;
      for (const input of inputs) {
        const branch = network.layers.find((l) => l.layer === input)!;
        const to = from + branch.shape[2];
        const part = total > 0 ? sums.slice(from, to).reduce((a, b) => a + b, 0) / total : 0;
        const bar = make('span', 'lane-share', make('span', 'lane-name', branch.branch ?? ''), make('span', 'track', make('span', 'fill')), make('span', 'lane-part', percent(part)));
        bar.style.setProperty('--part', String(part));
        bar.classList.toggle('off', gains[input] === 0);
        node.append(bar);
        from = to;
      }
    }
    nodes.push(make('li', '', node));
  }
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.at : undefined;
  map.replaceChildren(...nodes);
  mark();
  if (focused) map.querySelector<HTMLElement>(`[data-at="${CSS.escape(focused)}"]`)?.focus();
}

function channelSums(data: Float32Array, channels: number): number[] {
  const sums = new Array<number>(channels).fill(0);
  for (let i = 0; i < data.length; i++) sums[i % channels]! += Math.abs(data[i]!);
  return sums;
}

function mark(): void {
  for (const node of map.querySelectorAll<HTMLElement>('[data-at]')) {
    node.setAttribute('aria-pressed', String(node.dataset.at === at));
  }
  byId('inside-at', HTMLElement).textContent = at.replace('inception_', 'Module ');
}

function showBranches(still: () => boolean): Promise<void> {
  return branches.show(net!, at, gains, still);
}

function showWhy(still: () => boolean): Promise<void> {
  remember();
  return why.show(net!, preview, still);
}

/** A branch has another gain. */
function weigh(branch: string, value: number): void {
  gains = Object.fromEntries(Object.entries({ ...gains, [branch]: value }).filter(([, gain]) => gain !== 1));
  void attempt(ablate);
}

async function ablate(still: () => boolean): Promise<void> {
  remember();
  const result = await net!.ablate(gains);
  if (!still()) return;
  answer = result;
  onAnswer(result);
  const [first] = result.top;
  const [before] = result.before;
  const off = Object.keys(gains);
  restore.hidden = off.length === 0;
  changed.textContent =
    off.length === 0 || !first || !before
      ? ''
      : `With ${off.map((b) => `${b} x${gains[b]}`).join(', ')}: ${names(first.label)[0]}, ${percent(first.probability)} (untouched ${percent(result.untouched[0] ?? 0)}; the untouched network says ${names(before.label)[0]}, ${percent(before.probability)}).`;
  await showAll(still);
}

/** Switches every branch off in turn: what becomes of the answer's probability. */
async function fillMatrix(still: () => boolean): Promise<void> {
  const network = net!;
  const { top: [first] } = await network.ablate({});
  if (!first) return;
  matrixRun.disabled = true;
  const lanes = ['1x1', '3x3', '5x5', 'pool'];
  const outputs = network.layers.filter(({ layer, module }) => module && layer.endsWith('/output'));
  const head = make('tr', '', ...['Without', ...lanes].map((name) => Object.assign(make('th', '', name), { scope: 'col' })));
  const body = make('tbody', '');
  matrix.replaceChildren(make('caption', '', `Change of ${names(first.label)[0]}, ${percent(first.probability)}, in points`), make('thead', '', head), body);
  try {
    let done = 0;
    for (const { module, inputs } of outputs) {
      const row = make('tr', '', Object.assign(make('th', '', module!.replace('inception_', '')), { scope: 'row' }));
      body.append(row);
      for (const input of inputs) {
        const result = await network.ablate({ [input]: 0 }, { top: network.info.classes });
        if (!still()) return;
        const now = result.top.find(({ index }) => index === first.index)?.probability ?? 0;
        const change = (now - first.probability) * 100;
        const cell = make('td', `number ${change < 0 ? 'less' : 'more'}`, `${change < 0 ? '\u2212' : '+'}${Math.abs(change).toFixed(1)}`);
        cell.style.setProperty('--part', String(Math.min(1, Math.abs(change) / 50)));
        row.append(cell);
        matrixProgress.textContent = `${++done} of ${outputs.length * 4}`;
      }
    }
    matrixProgress.textContent = '';
  } finally {
    matrixRun.disabled = false;
    // As the person has set it.
    if (!network.closed) await network.ablate(gains);
  }
}

async function measure(still: () => boolean): Promise<void> {
  const network = net!;
  await network.profile(true);
  await network.classify(picture!);
  const steps = await network.profile(false);
  if (still()) tables.showTime(network, steps);
}

async function attempt(what: (still: () => boolean) => Promise<void>): Promise<void> {
  if (!net) return;
  const mine = ++turn;
  section.setAttribute('aria-busy', 'true');
  try {
    await what(() => mine === turn);
  } catch (error) {
    // What another picture or network has overtaken is of no interest.
    if (mine === turn && !(error instanceof GoogLeNetError && error.code === 'closed')) onError(error);
  }
  if (mine === turn) section.setAttribute('aria-busy', 'false');
}

/** The view as a link has it. */
function remember(): void {
  const state = new URLSearchParams({ at });
  if (answer && why.chosen() !== answer.top[0]?.index) state.set('class', String(why.chosen()));
  for (const [branch, gain] of Object.entries(gains)) state.append('gain', `${branch}:${gain}`);
  const sample = [...document.querySelectorAll<HTMLElement>('[data-sample]')].find(({ dataset }) => {
    return dataset.sample?.endsWith(`/${picture?.name}`);
  });
  if (sample?.dataset.sample) state.set('picture', sample.dataset.sample);
  history.replaceState(null, '', `#${state}`);
}

function recall(): void {
  const state = new URLSearchParams(location.hash.slice(1));
  at = state.get('at') ?? at;
  for (const entry of state.getAll('gain')) {
    const [branch = '', gain] = entry.split(':');
    if (/^inception_\w+\/\w+$/.test(branch) && Number.isFinite(Number(gain))) gains[branch] = Number(gain);
  }
  const sample = state.get('picture');
  const button = [...document.querySelectorAll<HTMLElement>('[data-sample]')].find(({ dataset }) => dataset.sample === sample);
  // Once everything listens.
  if (button) setTimeout(() => button.click());
}

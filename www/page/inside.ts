// Inside the network: its map, the chosen module's branches, and why it answers as it does.

import { GoogLeNetError, type Ablation, type Answer, type Class, type GoogLeNet, type Layer, type StepTime } from 'googlenet-web';
import { html, nothing, render } from 'lit-html';
import { byId, share } from './dom';
import * as habits from './habits';
import * as branches from './inside/branches';
import * as compare from './tabs/compare';
import * as map from './inside/map';
import type { Shown } from './inside/picture';
import { save } from './inside/save';
import * as tables from './inside/table';
import * as why from './tabs/contributions';
import { addressOf } from './sources';
import { names, percent, signed } from './words';

const section = byId('inside', HTMLElement);
const changed = byId('changed', HTMLElement);
const restore = byId('restore', HTMLButtonElement);
const matrix = byId('matrix', HTMLTableElement);
const matrixRun = byId('matrix-run', HTMLButtonElement);
const matrixBar = byId('matrix-bar', HTMLProgressElement);
const matrixProgress = byId('matrix-progress', HTMLElement);
const preview = byId('preview', HTMLImageElement);

/** A module's branches, as the matrix names them. */
const LANES = ['1x1', '3x3', '5x5', 'pool'];

/** What the page does for what is shown here. */
interface Page {
  /** Shows the answer of a network whose branches are weighed. */
  answered: (answer: Answer | Ablation) => void;
  /** Says what went wrong. */
  complain: (error: unknown) => void;
  /** Loads the same model on the other engine. */
  another: () => Promise<GoogLeNet>;
}

let page: Page;
let net: GoogLeNet | undefined;
let picture: File | HTMLCanvasElement | undefined;
let answer: Answer | undefined;
let at = 'inception_3a';
let tab = 'why';
let gains: Record<string, number> = {};
let times: StepTime[] = [];
let showTab: (panel: string) => void = () => {};
/** Whether branches are switched off in turn just now. */
let trying = false;
/** Counts the pictures. */
let pictures = 0;
/** Counts what is asked for: what comes of anything but the latest is not shown. */
let turn = 0;

export function listen(of: Page): void {
  page = of;
  showTab = habits.tabs(byId('tabs', HTMLElement), (panel) => {
    tab = panel;
    remember();
  });
  recall();
  branches.listen(() => void attempt(showBranches), weigh, backdrop);
  map.listen(go, weigh);
  why.listen(() => void attempt(showChosen));
  tables.listen((both) => void attempt((still) => measure(both, still)));
  compare.listen(() => void attempt(showPair), () => void attempt(differ), page.complain);
  restore.addEventListener('click', restoreAll);
  matrixRun.addEventListener('click', () => void attempt(fillMatrix));
  byId('save-answer', HTMLButtonElement).addEventListener('click', () => {
    const text = JSON.stringify({ model: net?.info.model, backend: net?.info.backend, gains, ...answer }, null, 2);
    save(new Blob([text], { type: 'application/json' }), 'answer.json');
  });
}

/** A picture was classified. */
export function seen(network: GoogLeNet, file: File, result: Answer): void {
  begin(network, file, result);
  render(nothing, matrix);
  compare.clear();
  remember();
  void attempt(Object.keys(gains).length > 0 ? ablate : showAll);
}

/** A frame of the webcam was classified: of the inside only the chosen module follows. */
export async function live(network: GoogLeNet, frame: HTMLCanvasElement, result: Answer): Promise<void> {
  const first = section.hidden || picture !== frame;
  begin(network, frame, result);
  await attempt(first ? showAll : showBranches);
}

/** Another picture is on its way: what is under way would be taken for its, and was computed of the one before. */
export function leave(): void {
  turn++;
  section.setAttribute('aria-busy', 'true');
  // Before the picture, as calls are done in turn.
  if (trying) net?.ablate({}).catch(() => {});
}

/** There is nothing to see. */
export function hide(): void {
  turn++;
  net = undefined;
  section.hidden = true;
  document.body.classList.remove('seeing');
}

/** A class was searched for: why it, or why not. */
export function ask(index: number): void {
  why.choose(index);
  tab = 'why';
  showTab(tab);
  void attempt(showChosen);
}

/** A key was pressed; gives whether it means anything here. */
export function key(pressed: string): boolean {
  if (!net) return false;
  const all = map.nodes(net);
  const step = { '[': -1, ']': 1 }[pressed];
  const branch = branches.branchesOf(net, at)[Number(pressed) - 1];
  if (step) go(all[Math.min(all.length - 1, Math.max(0, all.indexOf(at) + step))] ?? at);
  else if (pressed === '0') restoreAll();
  else if (branch) weigh(branch, gains[branch] === 0 ? 1 : 0);
  else return false;
  return true;
}

function begin(network: GoogLeNet, of: File | HTMLCanvasElement, result: Answer): void {
  if (net !== network) times = [];
  [net, picture, answer] = [network, of, result];
  pictures++;
  section.hidden = false;
  document.body.classList.add('seeing');
  const wanted = new URLSearchParams(location.hash.slice(1)).get('class');
  why.offer(net.info.labels, wanted !== null && Number(wanted) in net.info.labels ? Number(wanted) : result.top[0]?.index ?? 0);
  // A link may name what this network has not.
  const known = new Set(net.layers.map(({ layer }) => layer));
  gains = Object.fromEntries(Object.entries(gains).filter(([branch]) => known.has(branch)));
  if (!map.nodes(net).includes(at)) at = 'inception_3a';
  tables.show(net);
}

function backdrop(): Shown | undefined {
  if (picture instanceof HTMLCanvasElement) return picture;
  return preview.complete ? preview : undefined;
}

function go(to: string): void {
  at = to;
  mark();
  map.reveal(at);
  remember();
  void attempt(async (still) => {
    await showBranches(still);
    if (tab === 'compare' && compare.paired()) await showPair(still);
  });
}

function mark(): void {
  map.mark(at, gains);
  byId('inside-at', HTMLElement).textContent = at.replace('inception_', 'Module ');
}

async function showAll(still: () => boolean): Promise<void> {
  await showBranches(still);
  if (!still()) return;
  await showMap(still);
  if (!still()) return;
  await showWhy(still);
}

function showBranches(still: () => boolean): Promise<void> {
  return branches.show(net!, at, { gains, contributes, contribution }, still);
}

async function showMap(still: () => boolean): Promise<void> {
  await map.show(net!, { picture: pictures, gains, times }, still);
  if (still()) mark();
}

/** The chosen class's contributions, and the sheets where they are sorted by them. */
async function showChosen(still: () => boolean): Promise<void> {
  await showWhy(still);
  if (still()) await showBranches(still);
}

function showWhy(still: () => boolean): Promise<void> {
  remember();
  return why.show(net!, backdrop(), still);
}

/** The last module's output: its channels alone go into the score by themselves. */
function last(): Layer | undefined {
  return net!.layers.findLast(({ module }) => module !== null);
}

function contributes({ layer, inputs }: Layer): boolean {
  const output = last();
  return output !== undefined && (output.inputs.includes(layer) || inputs[0] === output.layer);
}

async function contribution({ layer }: Layer): Promise<Float64Array> {
  const { channels, branches: parts } = await net!.contributions(why.chosen());
  // What reads the output has all of its channels.
  const part = parts[last()!.inputs.indexOf(layer)];
  return part ? channels.slice(part.from, part.to) : channels;
}

/** A branch has another gain. */
function weigh(branch: string, value: number): void {
  gains = Object.fromEntries(Object.entries({ ...gains, [branch]: value }).filter(([, gain]) => gain !== 1));
  void attempt(ablate);
}

function restoreAll(): void {
  if (Object.keys(gains).length === 0) return;
  gains = {};
  void attempt(ablate);
}

async function ablate(still: () => boolean): Promise<void> {
  remember();
  const result = await net!.ablate(gains, { top: net!.info.classes });
  if (!still()) return;
  answer = result;
  page.answered(result);
  const [first] = result.top;
  const [before] = result.before;
  const off = Object.keys(gains);
  const other = before && before.index !== first?.index ? `; the untouched network says ${names(before.label)[0]}, ${percent(before.probability)}` : '';
  restore.hidden = off.length === 0;
  changed.textContent =
    off.length === 0 || !first || !before
      ? ''
      : `With ${off.map((b) => `${b} x${gains[b]}`).join(', ')}: ${names(first.label)[0]}, ${percent(first.probability)}, untouched ${percent(result.untouched[0] ?? 0)}${other}.`;
  await showAll(still);
}

/** Switches every branch off in turn: what becomes of the answer's probability. */
async function fillMatrix(still: () => boolean): Promise<void> {
  const network = net!;
  const { top: [first] } = await network.ablate({});
  if (!first) return;
  const outputs = network.layers.filter(({ layer, module }) => module && layer.endsWith('/output'));
  const changes = LANES.map((): number[] => []);
  drawMatrix(first, outputs, changes);
  matrixRun.disabled = true;
  matrixBar.hidden = false;
  matrixBar.max = outputs.length * LANES.length;
  trying = true;
  try {
    let done = 0;
    for (const { inputs } of outputs) {
      for (const [lane, input] of inputs.entries()) {
        const result = await network.ablate({ [input]: 0 }, { top: network.info.classes });
        if (!still()) return;
        const now = result.top.find(({ index }) => index === first.index)?.probability ?? 0;
        changes[lane]!.push((now - first.probability) * 100);
        drawMatrix(first, outputs, changes);
        matrixBar.value = ++done;
        matrixProgress.textContent = `${done} of ${matrixBar.max}`;
      }
    }
    matrixProgress.textContent = '';
  } finally {
    trying = false;
    matrixRun.disabled = false;
    matrixBar.hidden = true;
    // As the person has set it.
    if (!network.closed) await network.ablate(gains);
  }
}

/** The changes so far, a row a lane. */
function drawMatrix({ label, probability }: Class, outputs: Layer[], changes: number[][]): void {
  const head = ['Without', ...outputs.map(({ module }) => module!.replace('inception_', ''))];
  const cell = (change: number) => {
    const part = Math.min(1, Math.abs(change) / 50);
    return html`<td class="number ${change < 0 ? 'less' : 'more'}" ${share('--part', part)}>${signed(change, 1)}</td>`;
  };
  render(
    html`
      <caption>Change of ${names(label)[0]}, ${percent(probability)}, in points</caption>
      <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${LANES.map((lane, at) => html`<tr><th scope="row">${lane}</th>${changes[at]!.map(cell)}</tr>`)}</tbody>
    `,
    matrix,
  );
}

/** Times a run on this engine, or on both. */
async function measure(both: boolean, still: () => boolean): Promise<void> {
  const network = net!;
  const timed = async (of: GoogLeNet): Promise<tables.Timed> => {
    await of.profile(true);
    await of.classify(picture!);
    return { engine: of.info.backend === 'webgpu' ? 'GPU' : 'CPU', steps: await of.profile(false) };
  };
  const runs = [await timed(network)];
  if (both) {
    await beside(async (other) => {
      // Its first run is no measure.
      await other.classify(picture!);
      runs.push(await timed(other));
    });
  }
  if (!still()) return;
  times = runs[0]!.steps;
  tables.showTime(network, runs);
  await showMap(still);
}

/** Both pictures at the chosen module, without what was switched off; then the first alone again. */
async function showPair(still: () => boolean): Promise<void> {
  const network = net!;
  await network.ablate({});
  try {
    await compare.showPair(network, picture!, at, still);
  } finally {
    await again(network);
  }
}

async function differ(still: () => boolean): Promise<void> {
  const network = net!;
  await network.ablate({});
  try {
    await beside(async (other) => {
      await other.classify(picture!);
      await compare.differ(network, other, still);
    });
  } finally {
    await again(network);
  }
}

/** What the network held, as the person has set it. */
async function again(network: GoogLeNet): Promise<void> {
  if (network.closed) return;
  await network.classify(picture!);
  if (Object.keys(gains).length > 0) await network.ablate(gains);
}

/** Does something with the same model on the other engine. */
async function beside(what: (other: GoogLeNet) => Promise<void>): Promise<void> {
  const other = await page.another();
  try {
    await what(other);
  } finally {
    other.free();
  }
}

async function attempt(what: (still: () => boolean) => Promise<void>): Promise<void> {
  if (!net) return;
  const mine = ++turn;
  section.setAttribute('aria-busy', 'true');
  try {
    await what(() => mine === turn);
  } catch (error) {
    // What another picture or network has overtaken is of no interest.
    if (mine === turn && !(error instanceof GoogLeNetError && error.code === 'closed')) page.complain(error);
  }
  if (mine === turn) section.setAttribute('aria-busy', 'false');
}

/** The view as a link has it. */
function remember(): void {
  const state = new URLSearchParams({ at });
  if (answer && why.chosen() !== answer.top[0]?.index) state.set('class', String(why.chosen()));
  for (const [branch, gain] of Object.entries(gains)) state.append('gain', `${branch}:${gain}`);
  if (tab !== 'why') state.set('tab', tab);
  const address = addressOf(picture);
  if (address) state.set('picture', address);
  history.replaceState(null, '', `#${state}`);
}

function recall(): void {
  const state = new URLSearchParams(location.hash.slice(1));
  at = state.get('at') ?? at;
  tab = state.get('tab') ?? tab;
  showTab(tab);
  for (const entry of state.getAll('gain')) {
    const [branch = '', gain] = entry.split(':');
    if (/^inception_\w+\/\w+$/.test(branch) && Number.isFinite(Number(gain))) gains[branch] = Number(gain);
  }
}

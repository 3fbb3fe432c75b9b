// The section "Inside the network": the map of the network, the branches of the chosen module, and the tabs.

import { GoogLeNetError, type Ablation, type Answer, type GoogLeNet, type Layer, type StepTime } from 'googlenet-web';
import { byId } from './dom';
import { names, percent } from './format';
import * as branches from './inside/branches';
import * as map from './inside/map';
import type { Picture } from './inside/overlay';
import { addressOf } from './sources';
import { TABS } from './tabs';
import { chosenClass, chooseClass, offerClasses } from './tabs/contributions';
import type { IsCurrent, Tab, Task, View } from './tabs/tab';
import { createTabList } from './tabs/tab-list';

const section = byId('inside', HTMLElement);
const changed = byId('changed', HTMLElement);
const restoreButton = byId('restore', HTMLButtonElement);
const preview = byId('preview', HTMLImageElement);

/** The module that is chosen at first. */
const FIRST_MODULE = 'inception_3a';

/** What the page does for this section. */
interface Page {
  /** Shows the answer of a network whose branches are scaled. */
  showAnswer: (answer: Answer | Ablation) => void;
  /** Shows an error. */
  complain: (error: unknown) => void;
  /** Loads the same model on the other engine. */
  loadOnOther: () => Promise<GoogLeNet>;
}

let page: Page;
let net: GoogLeNet | undefined;
let picture: File | HTMLCanvasElement | undefined;
let answer: Answer | Ablation | undefined;
/** The chosen module, or the chosen layer outside of the modules. */
let module = FIRST_MODULE;
let openTab: Tab = TABS[0]!;
let open: (panel: string) => Tab = () => openTab;
/** The gains of the branches that are not 1. */
let gains: Record<string, number> = {};
/** The times of the last run that was measured. */
let times: StepTime[] = [];
/** Counts the pictures. */
let pictures = 0;
/** Counts the tasks. Only the results of the latest one are shown. */
let turn = 0;

const view: View = {
  get net() {
    return net!;
  },
  get picture() {
    return picture!;
  },
  get answer() {
    return answer!;
  },
  get gains() {
    return gains;
  },
  get module() {
    return module;
  },
  shown,
  run: (task) => void run(task),
  complain: (error) => page.complain(error),
  showClass: () => void run(showClass),
  showTimes: (steps, isCurrent) => {
    times = steps;
    return showMap(isCurrent);
  },
  restore,
  withOtherEngine,
};

/** Connects the controls of the section. Is called once, when the page starts. */
export function connect(of: Page): void {
  page = of;
  open = createTabList(TABS, (tab) => {
    openTab = tab;
    writeLink();
  });
  readLink();
  branches.connect({ onLook: () => void run(showBranches), onGain: setGain, shown });
  map.connect({ onChoice: choose, onGain: setGain });
  for (const tab of TABS) tab.connect(view);
  restoreButton.addEventListener('click', restoreBranches);
}

/** Shows the network after it has classified a picture. */
export function show(network: GoogLeNet, file: File, result: Answer): void {
  begin(network, file, result);
  for (const tab of TABS) tab.clear?.();
  writeLink();
  void run(Object.keys(gains).length > 0 ? ablate : showAll);
}

/** Shows the network after it has classified a frame of the webcam: after the first frame, only the chosen module. */
export async function showFrame(network: GoogLeNet, frame: HTMLCanvasElement, result: Answer): Promise<void> {
  const first = section.hidden || picture !== frame;
  begin(network, frame, result);
  await run(first ? showAll : showBranches);
}

/** Prepares for another picture: the results of tasks in progress belong to the picture before and are not shown. */
export function leave(): void {
  turn++;
  section.setAttribute('aria-busy', 'true');
  if (net) for (const tab of TABS) tab.interrupt?.();
}

/** Hides the section, until a picture is classified. */
export function hide(): void {
  turn++;
  net = undefined;
  section.hidden = true;
  document.body.classList.remove('seeing');
}

/** Explains the score of a class. */
export function explain(index: number): void {
  chooseClass(index);
  openTab = open('why');
  void run(showClass);
}

/** Handles a key that was pressed; returns whether it has a meaning here. */
export function pressKey(pressed: string): boolean {
  if (!net) return false;
  const all = map.nodes(net);
  const step = { '[': -1, ']': 1 }[pressed];
  const branch = branches.branchesOf(net, module)[Number(pressed) - 1];
  if (step) choose(all[Math.min(all.length - 1, Math.max(0, all.indexOf(module) + step))] ?? module);
  else if (pressed === '0') restoreBranches();
  else if (branch) setGain(branch, gains[branch] === 0 ? 1 : 0);
  else return false;
  return true;
}

function begin(network: GoogLeNet, of: File | HTMLCanvasElement, result: Answer): void {
  if (net !== network) times = [];
  [net, picture, answer] = [network, of, result];
  pictures++;
  section.hidden = false;
  document.body.classList.add('seeing');
  const linked = new URLSearchParams(location.hash.slice(1)).get('class');
  const { labels } = net.info;
  offerClasses(labels, linked !== null && Number(linked) in labels ? Number(linked) : result.top[0]?.index ?? 0);
  // A link may name branches and modules that this network does not have.
  const known = new Set(net.layers.map(({ layer }) => layer));
  gains = Object.fromEntries(Object.entries(gains).filter(([branch]) => known.has(branch)));
  if (!map.nodes(net).includes(module)) module = FIRST_MODULE;
  for (const tab of TABS) tab.showNetwork?.(net);
}

/** Returns the picture as it is shown, once it can be drawn. */
function shown(): Picture | undefined {
  if (picture instanceof HTMLCanvasElement) return picture;
  return preview.complete ? preview : undefined;
}

/** Chooses a module, or a layer outside of the modules. */
function choose(to: string): void {
  module = to;
  mark();
  map.reveal(module);
  writeLink();
  void run(async (isCurrent) => {
    await showBranches(isCurrent);
    await openTab.showModule?.(isCurrent);
  });
}

function mark(): void {
  map.mark(module, gains);
  byId('inside-at', HTMLElement).textContent = module.replace('inception_', 'Module ');
}

async function showAll(isCurrent: IsCurrent): Promise<void> {
  await showBranches(isCurrent);
  if (isCurrent()) await showMap(isCurrent);
  if (isCurrent()) await showPicture(isCurrent);
}

function showBranches(isCurrent: IsCurrent): Promise<void> {
  return branches.show(net!, module, { gains, contributes, contribution, isCurrent });
}

async function showMap(isCurrent: IsCurrent): Promise<void> {
  await map.show(net!, { picture: pictures, gains, times }, isCurrent);
  if (isCurrent()) mark();
}

/** Draws everything that depends on the chosen class: the tabs, and the sheets that are sorted by contribution. */
async function showClass(isCurrent: IsCurrent): Promise<void> {
  await showPicture(isCurrent);
  if (isCurrent()) await showBranches(isCurrent);
}

async function showPicture(isCurrent: IsCurrent): Promise<void> {
  writeLink();
  for (const tab of TABS) if (isCurrent()) await tab.showPicture?.(isCurrent);
}

/** Returns the output of the last module, whose channels alone contribute directly to the score. */
function lastModule(): Layer | undefined {
  return net!.layers.findLast(({ module }) => module !== null);
}

/** Says whether the channels of a layer contribute directly to the score. */
function contributes({ layer, inputs }: Layer): boolean {
  const output = lastModule();
  return output !== undefined && (output.inputs.includes(layer) || inputs[0] === output.layer);
}

/** Returns the contributions of a layer's channels to the score of the chosen class. */
async function contribution({ layer }: Layer): Promise<Float64Array> {
  const { channels, branches: parts } = await net!.contributions(chosenClass());
  // A layer that reads the last module's output has all of its channels.
  const part = parts[lastModule()!.inputs.indexOf(layer)];
  return part ? channels.slice(part.from, part.to) : channels;
}

function setGain(branch: string, value: number): void {
  gains = Object.fromEntries(Object.entries({ ...gains, [branch]: value }).filter(([, gain]) => gain !== 1));
  void run(ablate);
}

function restoreBranches(): void {
  if (Object.keys(gains).length === 0) return;
  gains = {};
  void run(ablate);
}

/** Runs the picture with the gains in force, and says how the answer changes. */
async function ablate(isCurrent: IsCurrent): Promise<void> {
  writeLink();
  const result = await net!.ablate(gains, { top: net!.info.classes });
  if (!isCurrent()) return;
  answer = result;
  page.showAnswer(result);
  const [first] = result.top;
  const [before] = result.before;
  const scaled = Object.keys(gains);
  restoreButton.hidden = scaled.length === 0;
  if (scaled.length === 0 || !first || !before) changed.textContent = '';
  else {
    const now = `${names(first.label)[0]}, ${percent(first.probability)}`;
    const other = before.index === first.index ? '' : `, whose answer is ${names(before.label)[0]}, ${percent(before.probability)}`;
    const unchanged = `${percent(result.untouched[0] ?? 0)} in the unchanged network${other}`;
    changed.textContent = `With ${scaled.map((branch) => `${branch} x${gains[branch]}`).join(', ')}: ${now} (${unchanged}).`;
  }
  await showAll(isCurrent);
}

async function restore(network: GoogLeNet): Promise<void> {
  if (network.closed) return;
  await network.classify(picture!);
  if (Object.keys(gains).length > 0) await network.ablate(gains);
}

async function withOtherEngine(work: (other: GoogLeNet) => Promise<void>): Promise<void> {
  const other = await page.loadOnOther();
  try {
    await work(other);
  } finally {
    other.free();
  }
}

/** Runs a task. Its error is shown, unless another task has begun meanwhile. */
async function run(task: Task): Promise<void> {
  if (!net) return;
  const mine = ++turn;
  section.setAttribute('aria-busy', 'true');
  try {
    await task(() => mine === turn);
  } catch (error) {
    if (mine === turn && !(error instanceof GoogLeNetError && error.code === 'closed')) page.complain(error);
  }
  if (mine === turn) section.setAttribute('aria-busy', 'false');
}

/** Writes the view into the address, so that a link opens it again. */
function writeLink(): void {
  const state = new URLSearchParams({ at: module });
  if (answer && chosenClass() !== answer.top[0]?.index) state.set('class', String(chosenClass()));
  for (const [branch, gain] of Object.entries(gains)) state.append('gain', `${branch}:${gain}`);
  if (openTab !== TABS[0]) state.set('tab', openTab.panel);
  const address = addressOf(picture);
  if (address) state.set('picture', address);
  history.replaceState(null, '', `#${state}`);
}

/** Reads the view from the address. */
function readLink(): void {
  const state = new URLSearchParams(location.hash.slice(1));
  module = state.get('at') ?? module;
  openTab = open(state.get('tab') ?? '');
  for (const entry of state.getAll('gain')) {
    const [branch = '', gain] = entry.split(':');
    if (/^inception_\w+\/\w+$/.test(branch) && Number.isFinite(Number(gain))) gains[branch] = Number(gain);
  }
}

import type { Ablation, Answer, Class, HeadAnswer } from 'googlenet-web';
import { byId, make } from './dom';
import { duration, listed, names, percent } from './words';

const section = document.querySelector('.answer') as HTMLElement;
const list = byId('top', HTMLOListElement);
const time = byId('time', HTMLElement);
const said = byId('said', HTMLElement);
const known = byId('knows', HTMLElement);
const unsure = byId('unsure', HTMLElement);
const heads = byId('heads', HTMLElement);
const search = byId('search', HTMLElement);
const field = byId('search-field', HTMLInputElement);
const found = byId('search-found', HTMLUListElement);

/** How many classes are shown. */
export const TOP = 5;

/** A model of no more classes than this says which they are: people drop anything. */
const FEW = 20;
/** Below this the likeliest class is hardly more than a guess. */
const SURE = 0.4;
/** So many classes that a search has found are shown. */
const FOUND = 6;
/** Where in the network the auxiliary heads sit (the paper's section 5). */
const AFTER: Record<string, string> = { loss1: 'after 4a', loss2: 'after 4d' };

/** The last answer's classes: all that there are, likeliest first. */
let all: Class[] = [];
let onClass: (index: number) => void = () => {};

/** Calls back with a class that was searched for and chosen. */
export function listen(chosen: (index: number) => void): void {
  onClass = chosen;
  field.addEventListener('input', find);
  found.addEventListener('click', ({ target }) => {
    const index = target instanceof Element ? target.closest<HTMLElement>('[data-index]')?.dataset.index : undefined;
    if (index !== undefined) onClass(Number(index));
  });
}

/** Five empty bars: where the answer will stand. */
export function blank(): void {
  list.replaceChildren(...Array.from({ length: TOP }, () => make('li', 'ghost', make('span', 'track'))));
  time.textContent = '';
  unsure.hidden = heads.hidden = search.hidden = true;
  busy(false);
}

/** Says what a model of few classes knows. */
export function knows(labels: string[]): void {
  known.hidden = labels.length > FEW;
  known.textContent = known.hidden ? '' : `This model knows only ${listed(labels.map((label) => names(label)[0]))}.`;
}

/** Whether the network is looking at a picture just now. */
export function busy(is: boolean): void {
  section.setAttribute('aria-busy', String(is));
}

/** Shows an answer that has all classes; `live` ones are told only when the likeliest class changes. */
export function show(answer: Answer | Ablation, live = false): void {
  const { top, ms } = answer;
  const before = live ? all[0]?.index : undefined;
  all = top;
  const untouched = 'untouched' in answer && answer.untouched.some((p, at) => p !== top[at]?.probability) ? answer.untouched : [];
  list.replaceChildren(...top.slice(0, TOP).map((one, at) => bar(one, untouched[at])));
  time.textContent = `Picture prepared in ${duration(ms.preprocess)}, network run in ${duration(ms.run)}`;
  unsure.hidden = known.hidden || (top[0]?.probability ?? 0) >= SURE;
  if (!live || before !== top[0]?.index) {
    const words = top.slice(0, 3).map(({ label, probability }) => `${names(label)[0]}, ${percent(probability)}`);
    said.textContent = `${words.join('; ')}.${unsure.hidden ? '' : ` ${unsure.textContent}`}`;
  }
  showHeads(answer.heads);
  search.hidden = false;
  find();
  busy(false);
}

function bar({ label, probability }: Class, untouched?: number): HTMLLIElement {
  const [name, others] = names(label);
  const title = make('span', 'name', name);
  if (others) title.append(make('span', 'others', others));
  const track = make('span', 'track', make('span', 'fill'));
  track.style.setProperty('--share', String(probability));
  const item = make('li', '', title, make('span', 'share', percent(probability)), track);
  if (untouched !== undefined) item.append(make('span', 'delta', points(probability - untouched)));
  return item;
}

/** `+3.2`: the change in percentage points. */
function points(change: number): string {
  return `${change < 0 ? '\u2212' : '+'}${Math.abs(change * 100).toFixed(1)}`;
}

/** The auxiliary heads' answers, beside the network's own. */
function showHeads(answers: HeadAnswer[]): void {
  const auxiliary = answers.filter(({ name }) => name in AFTER);
  heads.hidden = auxiliary.length === 0;
  heads.replaceChildren(
    ...auxiliary.map(({ name, top }) => {
      const rows = top.slice(0, TOP).map(({ label, probability }) => {
        return make('li', '', make('span', 'name', names(label)[0]), make('span', '', percent(probability)));
      });
      return make('div', '', make('h3', '', `${name}, ${AFTER[name]}`), make('ol', '', ...rows));
    }),
  );
}

/** Shows the classes whose names have what is typed. */
function find(): void {
  const wanted = field.value.trim().toLowerCase();
  const hits = wanted === '' ? [] : [...all.entries()].filter(([, { label }]) => label.toLowerCase().includes(wanted));
  found.replaceChildren(
    ...hits.slice(0, FOUND).map(([rank, { index, label, probability }]) => {
      const button = make('button', '', make('span', 'name', label), make('span', 'soft', `${percent(probability)}, rank ${rank + 1}`));
      button.type = 'button';
      button.dataset.index = String(index);
      return make('li', '', button);
    }),
  );
  if (wanted !== '' && hits.length === 0) found.append(make('li', 'soft', 'The model has no such class.'));
}

// The answer: the most probable classes, the auxiliary heads, and the search for a class.

import type { Ablation, Answer, Class, HeadAnswer } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { repeat } from 'lit-html/directives/repeat.js';
import { byId, share } from './dom';
import { duration, listed, names, percent, signed } from './format';

const section = document.querySelector('.answer') as HTMLElement;
const list = byId('top', HTMLOListElement);
const time = byId('time', HTMLElement);
const announcement = byId('said', HTMLElement);
const classList = byId('knows', HTMLElement);
const unsure = byId('unsure', HTMLElement);
const heads = byId('heads', HTMLElement);
const search = byId('search', HTMLElement);
const field = byId('search-field', HTMLInputElement);
const found = byId('search-found', HTMLUListElement);

/** The number of classes that are shown. */
export const TOP = 5;

/** The greatest number of classes that are listed below the answer. */
const MAX_LISTED_CLASSES = 20;
/** The probability of the first class below which the answer is marked as unsure. */
const UNSURE_BELOW = 0.4;
/** The greatest number of classes that a search shows. */
const MAX_FOUND = 6;
/** The positions of the auxiliary heads in the network (the paper's section 5). */
const HEAD_POSITIONS: Record<string, string> = { loss1: 'after 4a', loss2: 'after 4d' };

/** All classes of the last answer, in descending order of probability. */
let all: Class[] = [];
let onClass: (index: number) => void = () => {};

/** Connects the search. `chosen` is called with the index of a class that was found and chosen. */
export function connect(chosen: (index: number) => void): void {
  onClass = chosen;
  field.addEventListener('input', find);
}

/** Shows empty bars in the place of the answer. */
export function blank(): void {
  render(Array.from({ length: TOP }, () => html`<li class="ghost"><span class="track"></span></li>`), list);
  time.textContent = '';
  unsure.hidden = heads.hidden = search.hidden = true;
  busy(false);
}

/** Lists the classes of a model that has few, since people drop any picture. */
export function listClasses(labels: string[]): void {
  classList.hidden = labels.length > MAX_LISTED_CLASSES;
  classList.textContent = classList.hidden ? '' : `This model knows only ${listed(labels.map((label) => names(label)[0]))}.`;
}

/** Marks the answer as being computed. */
export function busy(is: boolean): void {
  section.setAttribute('aria-busy', String(is));
}

/** Shows an answer with all classes. Of `live` answers, screen readers announce only changes of the first class. */
export function show(answer: Answer | Ablation, live = false): void {
  const { top, ms } = answer;
  const before = live ? all[0]?.index : undefined;
  all = top;
  const untouched = 'untouched' in answer && answer.untouched.some((p, at) => p !== top[at]?.probability) ? answer.untouched : [];
  render(top.slice(0, TOP).map((one, at) => bar(one, untouched[at])), list);
  time.textContent = `Picture prepared in ${duration(ms.preprocess)}, network run in ${duration(ms.run)}`;
  unsure.hidden = classList.hidden || (top[0]?.probability ?? 0) >= UNSURE_BELOW;
  if (!live || before !== top[0]?.index) {
    const words = top.slice(0, 3).map(({ label, probability }) => `${names(label)[0]}, ${percent(probability)}`);
    announcement.textContent = `${words.join('; ')}.${unsure.hidden ? '' : ` ${unsure.textContent}`}`;
  }
  showHeads(answer.heads);
  search.hidden = false;
  find();
  busy(false);
}

/** Draws the bar of a class, and the change from its probability in the unchanged network. */
function bar({ label, probability }: Class, untouched?: number): TemplateResult {
  const [name, others] = names(label);
  return html`<li>
    <span class="name"><span>${name}</span>${others && html`<span class="others">${others}</span>`}</span>
    <span class="share">${percent(probability)}</span>
    <span class="track" ${share('--share', probability)}><span class="fill"></span></span>
    ${untouched === undefined ? nothing : html`<span class="delta">${signed((probability - untouched) * 100, 1)}</span>`}
  </li>`;
}

/** Shows the answers of the auxiliary heads. */
function showHeads(answers: HeadAnswer[]): void {
  const auxiliary = answers.filter(({ name }) => name in HEAD_POSITIONS);
  heads.hidden = auxiliary.length === 0;
  const row = ({ label, probability }: Class) => html`<li>
    <span class="name">${names(label)[0]}</span><span>${percent(probability)}</span>
  </li>`;
  const head = ({ name, top }: HeadAnswer) => html`<div><h3>${name}, ${HEAD_POSITIONS[name]}</h3><ol>${top.slice(0, TOP).map(row)}</ol></div>`;
  render(auxiliary.map(head), heads);
}

/** Shows the classes whose names contain the text that is typed. */
function find(): void {
  const wanted = field.value.trim().toLowerCase();
  const hits = wanted === '' ? [] : [...all.entries()].filter(([, { label }]) => label.toLowerCase().includes(wanted));
  const item = ([rank, { index, label, probability }]: [number, Class]) => html`<li>
    <button type="button" @click=${() => onClass(index)}>
      <span class="name">${label}</span><span class="soft">${percent(probability)}, rank ${rank + 1}</span>
    </button>
  </li>`;
  const none = wanted !== '' && hits.length === 0;
  const items = repeat(hits.slice(0, MAX_FOUND), ([, { index }]) => index, item);
  render(none ? html`<li class="soft">The model has no such class.</li>` : items, found);
}

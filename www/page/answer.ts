import type { Ablation, Answer, Class, HeadAnswer } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { repeat } from 'lit-html/directives/repeat.js';
import { byId, share } from './dom';
import { duration, listed, names, percent, signed } from './words';

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
}

/** Five empty bars: where the answer will stand. */
export function blank(): void {
  render(Array.from({ length: TOP }, () => html`<li class="ghost"><span class="track"></span></li>`), list);
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
  render(top.slice(0, TOP).map((one, at) => bar(one, untouched[at])), list);
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

function bar({ label, probability }: Class, untouched?: number): TemplateResult {
  const [name, others] = names(label);
  return html`<li>
    <span class="name"><span>${name}</span>${others && html`<span class="others">${others}</span>`}</span>
    <span class="share">${percent(probability)}</span>
    <span class="track" ${share('--share', probability)}><span class="fill"></span></span>
    ${untouched === undefined ? nothing : html`<span class="delta">${signed((probability - untouched) * 100, 1)}</span>`}
  </li>`;
}

/** The auxiliary heads' answers, beside the network's own. */
function showHeads(answers: HeadAnswer[]): void {
  const auxiliary = answers.filter(({ name }) => name in AFTER);
  heads.hidden = auxiliary.length === 0;
  const row = ({ label, probability }: Class) => html`<li>
    <span class="name">${names(label)[0]}</span><span>${percent(probability)}</span>
  </li>`;
  const head = ({ name, top }: HeadAnswer) => html`<div><h3>${name}, ${AFTER[name]}</h3><ol>${top.slice(0, TOP).map(row)}</ol></div>`;
  render(auxiliary.map(head), heads);
}

/** Shows the classes whose names have what is typed. */
function find(): void {
  const wanted = field.value.trim().toLowerCase();
  const hits = wanted === '' ? [] : [...all.entries()].filter(([, { label }]) => label.toLowerCase().includes(wanted));
  const item = ([rank, { index, label, probability }]: [number, Class]) => html`<li>
    <button type="button" @click=${() => onClass(index)}>
      <span class="name">${label}</span><span class="soft">${percent(probability)}, rank ${rank + 1}</span>
    </button>
  </li>`;
  const none = wanted !== '' && hits.length === 0;
  const items = repeat(hits.slice(0, FOUND), ([, { index }]) => index, item);
  render(none ? html`<li class="soft">The model has no such class.</li>` : items, found);
}

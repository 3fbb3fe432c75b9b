import type { Answer, Class } from 'googlenet-web';
import { byId, make } from './dom';
import { duration, listed, names, percent } from './words';

const section = document.querySelector('.answer') as HTMLElement;
const list = byId('top', HTMLOListElement);
const time = byId('time', HTMLElement);
const said = byId('said', HTMLElement);

const known = byId('knows', HTMLElement);
const unsure = byId('unsure', HTMLElement);

/** How many classes are shown. */
export const TOP = 5;

/** A model of no more classes than this says which they are: people drop anything. */
const FEW = 20;
/** Below this the likeliest class is hardly more than a guess. */
const SURE = 0.4;

/** Five empty bars: where the answer will stand. */
export function blank(): void {
  list.replaceChildren(...Array.from({ length: TOP }, () => make('li', 'ghost', make('span', 'track'))));
  time.textContent = '';
  unsure.hidden = true;
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

export function show({ top, ms }: Answer): void {
  list.replaceChildren(...top.map(bar));
  time.textContent = `Picture prepared in ${duration(ms.preprocess)}, network run in ${duration(ms.run)}`;
  const words = top.slice(0, 3).map(({ label, probability }) => `${names(label)[0]}, ${percent(probability)}`);
  unsure.hidden = known.hidden || (top[0]?.probability ?? 0) >= SURE;
  said.textContent = `${words.join('; ')}.${unsure.hidden ? '' : ` ${unsure.textContent}`}`;
  busy(false);
}

function bar({ label, probability }: Class): HTMLLIElement {
  const [name, others] = names(label);
  const title = make('span', 'name', name);
  if (others) title.append(make('span', 'others', others));
  const track = make('span', 'track', make('span', 'fill'));
  track.style.setProperty('--share', String(probability));
  return make('li', '', title, make('span', 'share', percent(probability)), track);
}

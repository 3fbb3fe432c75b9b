import type { Answer, Class } from '../client';
import { byId, make } from './dom';
import { duration, names, percent } from './words';

const section = document.querySelector('.answer') as HTMLElement;
const list = byId('top', HTMLOListElement);
const time = byId('time', HTMLElement);
const said = byId('said', HTMLElement);

/** How many classes are shown. */
export const TOP = 5;

/** Five empty bars: where the answer will stand. */
export function blank(): void {
  list.replaceChildren(...Array.from({ length: TOP }, () => make('li', 'ghost', make('span', 'track'))));
  time.textContent = '';
  busy(false);
}

/** Whether the network is looking at a picture just now. */
export function busy(is: boolean): void {
  section.setAttribute('aria-busy', String(is));
}

export function show({ top, ms }: Answer): void {
  list.replaceChildren(...top.map(bar));
  time.textContent = `Picture prepared in ${duration(ms.preprocess)}, network run in ${duration(ms.run)}`;
  const words = top.slice(0, 3).map(({ label, probability }) => `${names(label)[0]}, ${percent(probability)}`);
  said.textContent = `${words.join('; ')}.`;
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

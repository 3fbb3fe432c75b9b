// What the engine is, and the switches that change it.

import type { Backend, Info } from 'googlenet-web';
import { byId, make } from './dom';
import type { Entry } from './models';
import { sentence } from './words';

const facts = byId('facts', HTMLDListElement);
const switches = byId('backend', HTMLFieldSetElement);
const menu = byId('models', HTMLLabelElement);
const select = byId('model', HTMLSelectElement);
const heads = byId('with-heads', HTMLInputElement);

/** Calls back when a person chooses another backend or model, or wants the auxiliary heads or no longer. */
export function listen(onBackend: (backend: Backend) => void, onModel: (id: string) => void, onHeads: () => void): void {
  heads.addEventListener('change', onHeads);
  switches.addEventListener('change', () => onBackend(chosen()));
  select.addEventListener('change', () => onModel(select.value));
}

export function chosen(): Backend {
  const radio = switches.querySelector<HTMLInputElement>('input:checked');
  return (radio?.value ?? 'auto') as Backend;
}

/** Whether the auxiliary heads are wanted: more to download, and to run. */
export function withHeads(): boolean {
  return heads.checked;
}

export function choose(backend: Backend): void {
  const radio = switches.querySelector<HTMLInputElement>(`input[value="${backend}"]`);
  if (radio) radio.checked = true;
}

/** Offers the models where there is a choice. */
export function offer(models: Entry[], current: string | undefined): void {
  select.replaceChildren(...models.map(({ id, name }) => new Option(name, id, false, id === current)));
  menu.hidden = models.length < 2;
}

export function describe(info: Info): void {
  const on = info.backend === 'webgpu' ? 'GPU' : 'CPU';
  const threads = info.threads > 1 ? `, ${info.threads} threads` : '';
  const size = `${info.classes.toLocaleString('en')} classes, ${(info.parameters / 1e6).toFixed(1)} million parameters`;
  const rows = [
    row('Running on', make('strong', '', on), ` ${info.adapter}${threads}`, make('span', 'why', sentence(info.reason))),
    row('Model', make('strong', '', info.model), make('span', 'why', size)),
  ];
  if (info.notes.length > 0) {
    const notes = make('ul', '', ...info.notes.map((note) => make('li', '', sentence(note))));
    rows.push(row('Assumed', make('details', '', make('summary', '', 'What the file does not say'), notes)));
  }
  if (info.source) rows.push(row('Source', info.source));
  if (info.license) rows.push(row('Licence', info.license));
  facts.replaceChildren(...rows);
  facts.dataset.backend = on.toLowerCase();
}

function row(term: string, ...value: (Node | string)[]): HTMLElement {
  return make('div', '', make('dt', '', term), make('dd', '', ...value));
}

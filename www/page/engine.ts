// The panel of the engine: its properties, and the choice of engine, model and heads.

import type { Backend, Info } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { live } from 'lit-html/directives/live.js';
import { byId } from './dom';
import type { Entry } from './models';
import { engineName, sentence } from './format';

const facts = byId('facts', HTMLDListElement);
const switches = byId('backend', HTMLFieldSetElement);
const menu = byId('models', HTMLLabelElement);
const select = byId('model', HTMLSelectElement);
const heads = byId('with-heads', HTMLInputElement);

/** The callbacks of the panel. */
interface Callbacks {
  onBackend: (backend: Backend) => void;
  /** Is called with the id of a model. */
  onModel: (id: string) => void;
  /** Is called when the auxiliary heads are switched on or off. */
  onHeads: () => void;
}

/** Connects the panel. */
export function connect({ onBackend, onModel, onHeads }: Callbacks): void {
  heads.addEventListener('change', onHeads);
  switches.addEventListener('change', () => onBackend(chosen()));
  select.addEventListener('change', () => onModel(select.value));
}

/** Returns the chosen backend. */
export function chosen(): Backend {
  const radio = switches.querySelector<HTMLInputElement>('input:checked');
  return (radio?.value ?? 'auto') as Backend;
}

/** Says whether the auxiliary heads are to be loaded. */
export function withHeads(): boolean {
  return heads.checked;
}

/** Chooses a backend. */
export function choose(backend: Backend): void {
  const radio = switches.querySelector<HTMLInputElement>(`input[value="${backend}"]`);
  if (radio) radio.checked = true;
}

/** Offers the models, where there are several. */
export function offer(models: Entry[], current: string | undefined): void {
  render(models.map(({ id, name }) => html`<option value=${id} .selected=${live(id === current)}>${name}</option>`), select);
  menu.hidden = models.length < 2;
}

/** Shows the properties of the engine and the model. */
export function describe(info: Info): void {
  const on = engineName(info);
  const threads = info.threads > 1 ? `, ${info.threads} threads` : '';
  const size = `${info.classes.toLocaleString('en')} classes, ${(info.parameters / 1e6).toFixed(1)} million parameters`;
  const notes = info.notes.map((note) => html`<li>${sentence(note)}</li>`);
  const rows = [
    row('Running on', html`<strong>${on}</strong> ${info.adapter}${threads}<span class="why">${sentence(info.reason)}</span>`),
    row('Model', html`<strong>${info.model}</strong><span class="why">${size}</span>`),
    notes.length > 0 ? row('Assumed', html`<details><summary>What the file does not say</summary><ul>${notes}</ul></details>`) : nothing,
    info.source ? row('Source', info.source) : nothing,
    info.license ? row('Licence', info.license) : nothing,
  ];
  render(rows, facts);
  facts.dataset.backend = on.toLowerCase();
}

function row(term: string, value: TemplateResult | string): TemplateResult {
  return html`<div><dt>${term}</dt><dd>${value}</dd></div>`;
}

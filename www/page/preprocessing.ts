// The form that asks how pictures were preprocessed for the network of another framework, whose file does not state it.

import type { Imported } from 'googlenet-web';
import { byId } from './dom';

const form = byId('prepare', HTMLFormElement);
const how = byId('prepare-how', HTMLSelectElement);
const mean = byId('prepare-mean', HTMLInputElement);
const labels = byId('prepare-labels', HTMLInputElement);

/** The preprocessing of each choice, except the one with a mean. */
const CHOICES: Record<string, Imported> = {
  raw: { mean: [0, 0, 0] },
  unit: { mean: [0, 0, 0], scale: 1 / 255 },
  signed: { mean: [1, 1, 1], scale: 1 / 127.5 },
};

let then: ((imported: Imported) => void) | undefined;

/** Says whether loading failed because the preprocessing is not known. */
export function isMissing(error: unknown): boolean {
  const { code, detail } = (error ?? {}) as { code?: string; detail?: string };
  return code === 'import' && detail === 'preprocessing';
}

/** Shows the form. `callback` is called with the answer. */
export function ask(callback: (imported: Imported) => void): void {
  then = callback;
  form.hidden = false;
}

/** Hides the form. */
export function hide(): void {
  form.hidden = true;
}

/** Connects the form. */
export function connect(): void {
  const updateMean = () => (mean.disabled = how.value !== 'mean');
  how.addEventListener('change', updateMean);
  mean.addEventListener('input', () => mean.setCustomValidity(''));
  updateMean();
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const numbers = mean.value.split(/[,;\s]+/).filter(Boolean).map(Number);
    if (how.value === 'mean' && !(numbers.length === 3 && numbers.every(Number.isFinite))) {
      mean.setCustomValidity('Three numbers, for red, green and blue');
      mean.reportValidity();
      return;
    }
    const preprocessing = CHOICES[how.value] ?? { mean: numbers as [number, number, number] };
    const names = (await labels.files?.[0]?.text())?.trimEnd().split(/\r?\n/).map((name) => name.trim());
    form.hidden = true;
    then?.(names ? { ...preprocessing, labels: names } : preprocessing);
  });
}

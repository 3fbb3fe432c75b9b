// A network from another framework whose file does not say how its pictures were prepared: whoever trained it knows.

import type { Imported } from 'googlenet-web';
import { byId } from './dom';

const form = byId('prepare', HTMLFormElement);
const how = byId('prepare-how', HTMLSelectElement);
const mean = byId('prepare-mean', HTMLInputElement);
const labels = byId('prepare-labels', HTMLInputElement);

/** What the values of the choice stand for. */
const WAYS: Record<string, Imported> = {
  raw: { mean: [0, 0, 0] },
  unit: { mean: [0, 0, 0], scale: 1 / 255 },
  signed: { mean: [1, 1, 1], scale: 1 / 127.5 },
};

let then: ((imported: Imported) => void) | undefined;

/** Whether somebody has brought a file that cannot be used without this. */
export function needed(error: unknown): boolean {
  const { code, detail } = (error ?? {}) as { code?: string; detail?: string };
  return code === 'import' && detail === 'preprocessing';
}

/** Asks, and calls back with the answer. */
export function ask(callback: (imported: Imported) => void): void {
  then = callback;
  form.hidden = false;
}

export function hide(): void {
  form.hidden = true;
}

export function listen(): void {
  const means = () => (mean.disabled = how.value !== 'mean');
  how.addEventListener('change', means);
  mean.addEventListener('input', () => mean.setCustomValidity(''));
  means();
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const numbers = mean.value.split(/[,;\s]+/).filter(Boolean).map(Number);
    if (how.value === 'mean' && !(numbers.length === 3 && numbers.every(Number.isFinite))) {
      mean.setCustomValidity('Three numbers, for red, green and blue');
      mean.reportValidity();
      return;
    }
    const way = WAYS[how.value] ?? { mean: numbers as [number, number, number] };
    const names = (await labels.files?.[0]?.text())?.trimEnd().split(/\r?\n/).map((name) => name.trim());
    form.hidden = true;
    then?.(names ? { ...way, labels: names } : way);
  });
}

// The progress bar of loading.

import type { Progress } from 'googlenet-web';
import { byId } from './dom';
import { megabytes } from './format';

const box = byId('loading', HTMLElement);
const text = byId('loading-text', HTMLElement);
const bar = byId('bar', HTMLProgressElement);

/** Shows the progress of loading. */
export function progress(at: Progress): void {
  box.hidden = false;
  if (at.phase !== 'download') {
    text.textContent = 'Preparing the network';
    bar.removeAttribute('value');
  } else if (at.total === undefined) {
    text.textContent = `Loading the network: ${megabytes(at.loaded)}`;
    bar.removeAttribute('value');
  } else {
    text.textContent = `Loading the network: ${megabytes(at.loaded)} of ${megabytes(at.total)}`;
    bar.value = at.loaded / at.total;
  }
}

/** Hides the bar. */
export function done(): void {
  box.hidden = true;
}

// The alert: an error in its place on the page.

import { byId } from './dom';
import { sentence } from './format';
import * as preprocessing from './preprocessing';

const box = byId('alert', HTMLElement);
const text = byId('alert-text', HTMLElement);
const again = byId('alert-retry', HTMLButtonElement);

let retry: (() => void) | undefined;

byId('alert-close', HTMLButtonElement).addEventListener('click', clear);
again.addEventListener('click', () => {
  const what = retry;
  clear();
  what?.();
});

/** Says that a model file does not state its preprocessing, and asks for it. `then` is called with the answer. */
export function askPreprocessing(words: string, then: Parameters<typeof preprocessing.ask>[0]): void {
  complain(words);
  preprocessing.ask((imported) => {
    clear();
    then(imported);
  });
}

/** Shows an error. With `tryAgain` there is a button that tries again. */
export function complain(error: unknown, tryAgain?: () => void): void {
  text.textContent = sentence(error instanceof Error ? error.message : String(error));
  retry = tryAgain;
  again.hidden = !tryAgain;
  preprocessing.hide();
  box.hidden = false;
}

/** Hides the alert. */
export function clear(): void {
  box.hidden = true;
  text.textContent = '';
  retry = undefined;
}

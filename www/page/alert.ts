import { byId } from './dom';
import * as prepare from './prepare';
import { sentence } from './words';

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

/** Says that a file needs a word more, and asks for it. */
export function ask(words: string, then: Parameters<typeof prepare.ask>[0]): void {
  complain(words);
  prepare.ask((imported) => {
    clear();
    then(imported);
  });
}

/** Says what went wrong, in place, and offers to try again where that may help. */
export function complain(error: unknown, tryAgain?: () => void): void {
  text.textContent = sentence(error instanceof Error ? error.message : String(error));
  retry = tryAgain;
  again.hidden = !tryAgain;
  prepare.hide();
  box.hidden = false;
}

export function clear(): void {
  box.hidden = true;
  text.textContent = '';
  retry = undefined;
}

import { byId } from './dom';
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

/** Says what went wrong, in place, and offers to try again where that may help. */
export function complain(error: unknown, tryAgain?: () => void): void {
  text.textContent = sentence(error instanceof Error ? error.message : String(error));
  retry = tryAgain;
  again.hidden = !tryAgain;
  box.hidden = false;
}

export function clear(): void {
  box.hidden = true;
  text.textContent = '';
  retry = undefined;
}

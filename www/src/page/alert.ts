import { byId } from './dom';
import { sentence } from './words';

const box = byId('alert', HTMLElement);
const text = byId('alert-text', HTMLElement);

byId('alert-close', HTMLButtonElement).addEventListener('click', clear);

/** Says what went wrong, in place. */
export function complain(error: unknown): void {
  text.textContent = sentence(error instanceof Error ? error.message : String(error));
  box.hidden = false;
}

export function clear(): void {
  box.hidden = true;
  text.textContent = '';
}

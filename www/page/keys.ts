// The page's keys.

import { byId } from './dom';

/** The keys that press a button, and the button's id. */
const BUTTONS: Record<string, string> = { '?': 'show-keys', o: 'file', v: 'paste', w: 'webcam' };

/** The inputs in which keys are typed. */
const TEXT_INPUTS = 'input:not([type=checkbox], [type=radio], [type=file]), select, textarea';

/**
 * Connects the keys and the dialog that lists them. `pressKey` handles any other key, and returns whether it has a
 * meaning.
 */
export function connect(pressKey: (key: string) => boolean): void {
  const dialog = byId('keys', HTMLDialogElement);
  byId('show-keys', HTMLButtonElement).addEventListener('click', () => dialog.showModal());
  addEventListener('keydown', (event) => {
    const { key, target, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey || dialog.open || event.defaultPrevented) return;
    if (target instanceof HTMLElement && target.closest(TEXT_INPUTS)) return;
    const id = BUTTONS[key];
    if (id) document.getElementById(id)?.click();
    else if (key === '/') byId('search-field', HTMLInputElement).focus();
    else if (!pressKey(key)) return;
    event.preventDefault();
  });
}

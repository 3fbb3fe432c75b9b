// What a person expects of any page: a theme to choose, keys, and a list of them.

import { byId } from './dom';

const THEMES = ['system', 'light', 'dark'] as const;
const KEPT = 'googlenet-theme';

export function theme(): void {
  const button = byId('theme', HTMLButtonElement);
  const kept = THEMES.find((one) => one === localStorage.getItem(KEPT)) ?? 'system';
  const set = (to: (typeof THEMES)[number]) => {
    document.documentElement.dataset.theme = to;
    button.textContent = `Theme: ${to}`;
  };
  set(kept);
  button.addEventListener('click', () => {
    const now = THEMES.findIndex((one) => one === document.documentElement.dataset.theme);
    const next = THEMES[(now + 1) % THEMES.length] ?? 'system';
    localStorage.setItem(KEPT, next);
    set(next);
  });
}

/** Keys that press a button, by its id; the others call back. */
export function keys(others: (key: string) => boolean): void {
  const dialog = byId('keys', HTMLDialogElement);
  byId('show-keys', HTMLButtonElement).addEventListener('click', () => dialog.showModal());
  const pressed: Record<string, string> = { '?': 'show-keys', o: 'file', v: 'paste', w: 'webcam' };
  addEventListener('keydown', (event) => {
    const { key, target, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey || dialog.open || event.defaultPrevented) return;
    if (target instanceof HTMLElement && target.closest('input:not([type=checkbox], [type=radio], [type=file]), select, textarea')) return;
    const id = pressed[key];
    if (id) document.getElementById(id)?.click();
    else if (key === '/') byId('search-field', HTMLInputElement).focus();
    else if (!others(key)) return;
    event.preventDefault();
  });
}

/** Tabs (ARIA Authoring Practices): one tab stop, arrow keys move. Calls back with the panel that is shown. */
export function tabs(list: HTMLElement, shown: (panel: string) => void): (panel: string) => void {
  const all = [...list.querySelectorAll<HTMLElement>('[role=tab]')];
  const panelOf = (tab: HTMLElement) => tab.getAttribute('aria-controls') ?? '';
  const show = (panel: string) => {
    const chosen = all.find((tab) => panelOf(tab) === panel) ?? all[0];
    for (const tab of all) {
      tab.setAttribute('aria-selected', String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(panelOf(tab), HTMLElement).hidden = tab !== chosen;
    }
  };
  list.addEventListener('click', ({ target }) => {
    const tab = target instanceof Element ? target.closest<HTMLElement>('[role=tab]') : null;
    if (!tab) return;
    show(panelOf(tab));
    shown(panelOf(tab));
  });
  list.addEventListener('keydown', (event) => {
    const at = all.findIndex((tab) => tab === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = all.at(to % all.length);
    tab?.focus();
    tab?.click();
  });
  show('');
  return show;
}

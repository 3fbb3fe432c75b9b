// The button that chooses the theme.

import { byId } from './dom';

const THEMES = ['system', 'light', 'dark'] as const;
const STORAGE_KEY = 'googlenet-theme';

/** Sets the theme that was chosen on an earlier visit, and connects the button. */
export function connect(): void {
  const button = byId('theme', HTMLButtonElement);
  const stored = THEMES.find((one) => one === localStorage.getItem(STORAGE_KEY)) ?? 'system';
  const set = (to: (typeof THEMES)[number]) => {
    document.documentElement.dataset.theme = to;
    button.textContent = `Theme: ${to}`;
  };
  set(stored);
  button.addEventListener('click', () => {
    const now = THEMES.findIndex((one) => one === document.documentElement.dataset.theme);
    const next = THEMES[(now + 1) % THEMES.length] ?? 'system';
    localStorage.setItem(STORAGE_KEY, next);
    set(next);
  });
}

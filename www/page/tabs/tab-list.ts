// The row of tab buttons (https://www.w3.org/WAI/ARIA/apg/patterns/tabs/): it is one tab stop, and arrow keys move in
// it.

import { html, render } from 'lit-html';
import { byId } from '../dom';
import type { Tab } from './tab';

const list = byId('tabs', HTMLElement);

/**
 * Creates the button of each tab, and shows the panel of the one that is chosen.
 *
 * Returns a function that opens the tab of a panel, or the first tab where no tab has that panel, and returns that tab.
 * `onOpen` is called with a tab that the user opens.
 */
export function createTabList(tabs: readonly Tab[], onOpen: (tab: Tab) => void): (panel: string) => Tab {
  const button = ({ panel, label }: Tab) => html`<button type="button" role="tab" id="tab-${panel}" aria-controls=${panel}>${label}</button>`;
  render(tabs.map(button), list);
  const buttons = [...list.querySelectorAll<HTMLElement>('[role=tab]')];
  const open = (panel: string): Tab => {
    const chosen = tabs.find((tab) => tab.panel === panel) ?? tabs[0]!;
    for (const [at, tab] of tabs.entries()) {
      const button = buttons[at]!;
      button.setAttribute('aria-selected', String(tab === chosen));
      button.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.panel, HTMLElement).hidden = tab !== chosen;
    }
    return chosen;
  };
  list.addEventListener('click', ({ target }) => {
    const button = target instanceof Element ? target.closest<HTMLElement>('[role=tab]') : null;
    if (button) onOpen(open(button.getAttribute('aria-controls') ?? ''));
  });
  list.addEventListener('keydown', (event) => {
    const at = buttons.findIndex((button) => button === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const button = buttons.at(to % buttons.length);
    button?.focus();
    button?.click();
  });
  return open;
}

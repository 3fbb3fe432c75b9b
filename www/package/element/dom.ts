// Creates the element's parts.

/** Creates an element. `part` is its class and its part, by which a page can style it. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  part: string,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (part) {
    element.className = part;
    element.setAttribute('part', part);
  }
  element.append(...children);
  return element;
}

/** Sets an element's role and label for screen readers. */
export function describe(element: Element, role: string | undefined, label?: string): void {
  if (role) element.setAttribute('role', role);
  if (label) element.setAttribute('aria-label', label);
}

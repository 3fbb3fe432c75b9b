/** A new element: its class is its part, by which a page can style it. */
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

/** Says what an element is to those who do not see it. */
export function tell(element: Element, role: string | undefined, label?: string): void {
  if (role) element.setAttribute('role', role);
  if (label) element.setAttribute('aria-label', label);
}

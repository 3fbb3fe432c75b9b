// The sample pictures, which depend on the model: one that it cannot name would be a poor example.

import { byId } from './dom';

const group = byId('samples', HTMLElement);
const second = byId('second-sample', HTMLSelectElement);

/** Offers the samples that show one of these classes, and no others. */
export function offer(labels: readonly string[]): void {
  const known = new Set(labels.flatMap(classNames));
  const offered = new Set<string>();
  for (const button of group.querySelectorAll<HTMLElement>('[data-sample]')) {
    const { sample = '', shows = '' } = button.dataset;
    button.hidden = !classNames(shows).some((name) => known.has(name));
    if (!button.hidden) offered.add(sample);
  }
  group.hidden = offered.size === 0;
  for (const option of second.options) {
    // Safari shows options that are hidden.
    option.hidden = option.disabled = option.value !== '' && !offered.has(option.value);
  }
  if (second.selectedOptions[0]?.disabled) second.value = '';
}

/** All names in a class's label, or in a list of classes: ImageNet's labels hold synonyms. */
function classNames(label: string): string[] {
  return label.toLowerCase().split(', ');
}

// The sample pictures. Only those that show a class of the model are offered.

import { byId } from './dom';

const group = byId('samples', HTMLElement);
const second = byId('second-sample', HTMLSelectElement);

/** Offers the samples that show one of these classes. */
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
    // Safari shows hidden options, so that they are also disabled.
    option.hidden = option.disabled = option.value !== '' && !offered.has(option.value);
  }
  if (second.selectedOptions[0]?.disabled) second.value = '';
}

/** Splits a label, or a list of classes, into names. ImageNet's labels contain synonyms. */
function classNames(label: string): string[] {
  return label.toLowerCase().split(', ');
}

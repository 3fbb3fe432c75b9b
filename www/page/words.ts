// Numbers and names as a person reads them.

/** `48.5%`. */
export function percent(share: number): string {
  return share > 0 && share < 0.0005 ? '<0.1%' : `${(share * 100).toFixed(1)}%`;
}

/** `+3.2`, with a true minus sign. */
export function signed(value: number, digits: number): string {
  return `${value < 0 ? '\u2212' : '+'}${Math.abs(value).toFixed(digits)}`;
}

/** `12.3 MB`. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** `7 ms`, `0.4 ms`, `1.2 s`. */
export function duration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

/** A class's first name, and the others it goes by. */
export function names(label: string): [string, string] {
  const [first = label, ...others] = label.split(', ');
  return [first, others.join(', ')];
}

/** `airplane, bird and cat`. */
export function listed(words: string[]): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} and ${last}`;
}

/** The first letter large. */
export function sentence(text: string): string {
  const full = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(full) ? full : `${full}.`;
}

// Formats numbers and names for people.

import type { Info } from 'googlenet-web';

/** Returns the name of the engine that a network runs on. */
export function engineName({ backend }: Pick<Info, 'backend'>): 'GPU' | 'CPU' {
  return backend === 'webgpu' ? 'GPU' : 'CPU';
}

/** Formats a fraction as `48.5%`. */
export function percent(share: number): string {
  return share > 0 && share < 0.0005 ? '<0.1%' : `${(share * 100).toFixed(1)}%`;
}

/** Formats a number as `+3.2`, with a true minus sign where it is negative. */
export function signed(value: number, digits: number): string {
  return `${value < 0 ? '\u2212' : '+'}${Math.abs(value).toFixed(digits)}`;
}

/** Formats a number of bytes as `12.3 MB`. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Formats milliseconds as `7 ms`, `0.4 ms` or `1.2 s`. */
export function duration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

/** Splits a class's label into its first name and its synonyms. */
export function names(label: string): [string, string] {
  const [first = label, ...others] = label.split(', ');
  return [first, others.join(', ')];
}

/** Formats a list as `airplane, bird and cat`. */
export function listed(words: string[]): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} and ${last}`;
}

/** Makes a sentence of a text: it begins with a capital letter and ends with a full stop. */
export function sentence(text: string): string {
  const full = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(full) ? full : `${full}.`;
}

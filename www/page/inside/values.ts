// What a layer gave, reduced to what is shown of it.

import type { ChannelStats } from 'googlenet-web';

/** Least and greatest value of all. */
export function extent(all: ChannelStats[]): [low: number, high: number] {
  return [Math.min(...all.flatMap(({ min }) => [...min])), Math.max(...all.flatMap(({ max }) => [...max]))];
}

/** The channels' numbers, the greatest of `by` first. */
export function descending(by: ArrayLike<number>): number[] {
  return Array.from(by, (_, channel) => channel).sort((a, b) => by[b]! - by[a]!);
}

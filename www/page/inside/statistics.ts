// Statistics of layers' outputs.

import type { ChannelStats } from 'googlenet-web';

/** Returns the minimum and the maximum over several layers. */
export function extent(all: ChannelStats[]): [low: number, high: number] {
  return [Math.min(...all.flatMap(({ min }) => [...min])), Math.max(...all.flatMap(({ max }) => [...max]))];
}

/** Returns the indices of channels, sorted by descending values. */
export function descending(by: ArrayLike<number>): number[] {
  return Array.from(by, (_, channel) => channel).sort((a, b) => by[b]! - by[a]!);
}

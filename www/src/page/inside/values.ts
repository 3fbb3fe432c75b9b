// What a layer gave, reduced to what is shown of it.

import type { Activation, ChannelStats } from 'googlenet-web';

/** One channel's cells, row by row. */
export function channelOf({ data, shape: [height, width, channels] }: Activation, channel: number): number[] {
  return Array.from({ length: height * width }, (_, cell) => data[cell * channels + channel]!);
}

/** Least and greatest value of all. */
export function extent(all: ChannelStats[]): [low: number, high: number] {
  return [Math.min(...all.flatMap(({ min }) => [...min])), Math.max(...all.flatMap(({ max }) => [...max]))];
}

/** The channels' numbers, the greatest of `by` first. */
export function descending(by: ArrayLike<number>): number[] {
  return Array.from(by, (_, channel) => channel).sort((a, b) => by[b]! - by[a]!);
}

// What a layer gave, as an array.

import { bad } from './errors.js';
import type { ChannelStats } from './types.js';

/** The values of one picture of a batch, where they are. */
export function one(data: Float32Array, image: number, pictures: number): Float32Array {
  if (!(image >= 0 && image < pictures)) throw bad(`There is no picture ${image} in a batch of ${pictures}.`);
  const length = data.length / pictures;
  return data.subarray(image * length, (image + 1) * length);
}

/** Of each channel of a picture; the channels of a cell are neighbours in `data`. */
export function stats(data: Float32Array, channels: number): ChannelStats {
  const cells = data.length / channels;
  const sum = new Float64Array(channels);
  const max = new Float32Array(channels).fill(-Infinity);
  const min = new Float32Array(channels).fill(Infinity);
  const zeros = new Float32Array(channels);
  for (let at = 0; at < data.length; at += channels) {
    for (let channel = 0; channel < channels; channel++) {
      const value = data[at + channel]!;
      sum[channel]! += value;
      if (value > max[channel]!) max[channel] = value;
      if (value < min[channel]!) min[channel] = value;
      if (value === 0) zeros[channel]!++;
    }
  }
  return { mean: Float32Array.from(sum, (total) => total / cells), max, min, zeros: zeros.map((count) => count / cells) };
}

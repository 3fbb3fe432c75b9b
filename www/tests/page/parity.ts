// Runs in the browser: loads a model, runs a stored input, compares every layer with what another
// framework computed.

import { GoogLeNet, type Answer, type Backend, type Info } from '../../package/index.js';
import { fromCaffe, fromKeras } from './names';
import { tensors, type Tensor } from './safetensors';

/** The comparison of one layer: the greatest error as a part of its tolerance. */
interface Layer {
  name: string;
  node: string;
  elements: number;
  worst: number;
  /** The number of elements beyond the tolerance. */
  beyond: number;
  /** Negative control: the greatest error after one element of the reference was moved by three times its tolerance. */
  control: number;
}

const ATOL = 1e-4;
const RTOL = 1e-3;
// Where a layer's values reach hundreds, so do the terms of sums that are near zero, and f32 keeps seven digits of
// them.
const RESOLUTION = 1e-6;

let net: GoogLeNet | undefined;

async function open(model: string, backend: Backend): Promise<Info> {
  net?.free();
  net = await GoogLeNet.load({ model, backend });
  return net.info;
}

/** How a file of layers is written: the input's name, if it has one, the names of the layers, and their layout. */
const FILES = {
  keras: { input: 'input', toOurs: fromKeras, channelsFirst: false },
  caffe: { input: 'data', toOurs: fromCaffe, channelsFirst: true },
  exact: { input: undefined, toOurs: (name: string) => name, channelsFirst: false },
};

/** Compares every layer of a file after a run of the file's input, or, without an input, after the last run. */
async function compare(url: string, of: keyof typeof FILES): Promise<Layer[]> {
  if (!net) throw new Error('open a model first');
  const { input, toOurs, channelsFirst } = FILES[of];
  const golden = await tensors(url);
  const hwc = (tensor: Tensor) => (channelsFirst ? fromChw(tensor) : tensor.data);
  if (input) {
    const pixels = golden.get(input);
    if (!pixels) throw new Error(`${url} has no ${input}`);
    golden.delete(input);
    await net.run(hwc(pixels));
  }
  const layers: Layer[] = [];
  for (const [name, tensor] of golden) {
    const node = toOurs(name);
    const expected = hwc(tensor);
    const { data } = await net.activation(node);
    if (data.length !== expected.length) throw new Error(`${node}: ${data.length} values, expected ${expected.length}`);
    const floor = Math.max(ATOL, RESOLUTION * expected.reduce((most, v) => Math.max(most, Math.abs(v)), 0));
    const moved = expected.slice();
    const at = moved.length >> 1;
    moved[at] = data[at]! + 3 * (floor + RTOL * Math.abs(data[at]!));
    const control = distance(data, moved, floor).worst;
    layers.push({ name, node, elements: data.length, ...distance(data, expected, floor), control });
  }
  return layers;
}

async function classify(url: string): Promise<Answer> {
  if (!net) throw new Error('open a model first');
  return net.classify(await (await fetch(url)).blob());
}

/** Returns the greatest error as a part of `floor + RTOL |reference|`, and the number of elements beyond it. */
function distance(actual: Float32Array, expected: Float32Array, floor: number): Pick<Layer, 'worst' | 'beyond'> {
  let [worst, beyond] = [0, 0];
  for (let i = 0; i < actual.length; i++) {
    const away = Math.abs(actual[i]! - expected[i]!) / (floor + RTOL * Math.abs(expected[i]!));
    // The distance of NaN from anything is infinite.
    if (!(away <= worst)) worst = Number.isNaN(away) ? Infinity : away;
    if (!(away <= 1)) beyond++;
  }
  return { worst, beyond };
}

function fromChw({ shape, data }: Tensor): Float32Array {
  const [c = 1, h = 1, w = 1] = shape;
  const out = new Float32Array(data.length);
  for (let at = 0; at < c; at++) {
    for (let p = 0; p < h * w; p++) out[p * c + at] = data[at * h * w + p]!;
  }
  return out;
}

Object.assign(window, { parity: { open, compare, classify } });

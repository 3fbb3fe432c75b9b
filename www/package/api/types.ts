// The types of the package's options and results.

import type { GoogLeNetError } from './errors.js';

/**
 * The backend to run on: `auto` uses WebGPU where there is a hardware GPU, and WebAssembly otherwise. `gpu` and `cpu`
 * are other names of `webgpu` and `wasm`.
 */
export type Backend = 'auto' | 'webgpu' | 'wasm' | 'gpu' | 'cpu';

/**
 * The instruction set of the wasm backend: the fastest that the browser supports (`auto`), plain SIMD, or relaxed SIMD,
 * whose fused multiply-add rounds once on processors that have such an instruction.
 */
export type Simd = 'auto' | 'plain' | 'relaxed';

/**
 * The part of the picture that the network sees: the square at its `center`, the whole picture stretched into a square
 * (`squash`), or the whole picture in its own proportions (`fit`), where the mean colour fills the rest of the square.
 */
export type Crop = 'center' | 'squash' | 'fit';

/** How values are mapped to colours. The middle of `diverging` is zero. */
export type Colormap = 'viridis' | 'grey' | 'diverging';

/** A file that can be fetched. */
export interface RemoteFile {
  /** The file's address; a relative one is relative to the page. */
  url: string | URL;
  /**
   * The SHA-256 of the file in hex. A file with a hash is checked, and is kept in Cache Storage under this hash.
   * Default: the file is neither checked nor kept.
   */
  sha256?: string | undefined;
}

/** A model that can be fetched. */
export interface ModelFile extends RemoteFile {
  /** A copy without auxiliary heads, which is fetched instead where `heads` is false. Default: there is none. */
  noHeads?: RemoteFile | undefined;
}

/**
 * A model: `cifar10` (bundled, ten everyday classes), `imagenet` (BVLC's thousand classes, fetched from the folder
 * `modelUrl`), a file's address, or the file itself. The file is a safetensors file, or a file of Keras, Caffe or ONNX.
 */
export type Model = 'cifar10' | 'imagenet' | (string & {}) | URL | ModelFile | ArrayBuffer | Uint8Array | Blob;

/** RGBA bytes, row by row from the top, as in `ImageData`. In Node this is the only kind of picture. */
export interface Pixels {
  /** The RGBA bytes: `4 * width * height` of them. */
  data: Uint8ClampedArray | Uint8Array;
  /** The width in pixels. */
  width: number;
  /** The height in pixels. */
  height: number;
}

/**
 * A picture: a file, its address, an element that shows one, or pixels. The source is not changed: a bitmap or frame
 * stays open and is the caller's to close.
 */
export type Source =
  | Blob
  | URL
  | string
  | HTMLImageElement
  | SVGImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap
  | ImageData
  | VideoFrame
  | Pixels;

/**
 * The progress of loading. The phases come in the order `download`, `compile`, `upload`, `ready`; `loaded` and `total`
 * are bytes, and `total` is `undefined` where the server does not announce it.
 */
export interface Progress {
  /** The phase: `download` of the model, `compile` of the engine, `upload` of the weights to it, and `ready`. */
  phase: 'download' | 'compile' | 'upload' | 'ready';
  /** The bytes of this phase that are done. */
  loaded: number;
  /** The bytes of this phase in all. */
  total: number | undefined;
}

/**
 * What a file of another framework does not state about its input and its classes. Input channel c is
 * `(pixel * scale - mean[c]) / std[c]`, where a pixel is 0 to 255.
 */
export interface Imported {
  /**
   * The mean that is subtracted from each input channel, in the order of `order`; 0, 0, 0 where none was subtracted.
   * Default: the file's own; loading fails where it has none.
   */
  mean?: readonly [number, number, number];
  /** The standard deviation by which each input channel is divided. Default: 1 for each. */
  std?: readonly [number, number, number];
  /** The factor of a pixel, which is applied before the mean is subtracted. Default: 1. */
  scale?: number;
  /** The order of the input's channels. Default: `RGB`. */
  order?: 'RGB' | 'BGR';
  /**
   * The names of the classes, in the order of the outputs. Default: ImageNet's names where there are 1000 classes, and
   * numbers otherwise.
   */
  labels?: readonly string[];
}

/** The options of `GoogLeNet.load`. All may be left out. */
export interface LoadOptions {
  /** The model to load. Default: the bundled `cifar10` model. */
  model?: Model;
  /** The backend to run on. Default: `auto`. */
  backend?: Backend;
  /**
   * What the model file of another framework does not state itself. Loading fails with the code `import` and the detail
   * `preprocessing` where neither the file nor this option has a mean. Default: nothing is added to the file.
   */
  imported?: Imported | undefined;
  /**
   * The number of threads that share the work on the wasm backend. It is 1 where the page is not cross-origin isolated,
   * and where `worker` is false; `info.threads` has the number in use. Default: one for each core, at most 8.
   */
  threads?: number | undefined;
  /**
   * Whether a GPU with the feature `shader-f16` stores activations and weights in half precision and multiplies in it.
   * Sums and probabilities are in single precision in either case. `info.f16` says whether it is in use. This is
   * independent of the precision in which the file stores its weights. Default: false.
   */
  f16?: boolean;
  /**
   * Whether the auxiliary heads are loaded, where the model has them. Without them there is less to run, and the
   * bundled model takes 12 MB instead of 21 MB to download. Default: true.
   */
  heads?: boolean;
  /**
   * Whether to prepare for {@link GoogLeNet.ablate}: then already its first call runs only what lies downstream of the
   * changed branches. In return each run copies every branch once. Default: false.
   */
  ablation?: boolean;
  /** Whether to run in a worker, or else on the calling thread. Default: true where the platform has workers. */
  worker?: boolean;
  /**
   * Whether to measure which kernels are fastest on this GPU, once the page is idle after the first answer, and to keep
   * the result for the next visit. A software adapter is never measured. Default: true.
   */
  tune?: boolean;
  /**
   * Whether the GPU must first compute a part of a test picture as the CPU does; there are drivers that compute
   * wrongly. Where the results differ, `auto` uses the CPU, and `webgpu` fails with the code `no-gpu`. Default:
   * hardware is checked, and a software adapter is not.
   */
  check?: boolean;
  /**
   * The instruction set of the wasm backend, for measurements. Default: relaxed SIMD where the browser supports it and
   * it is faster, which is not the case in Node before version 24.
   */
  simd?: Simd;
  /** Is called with the progress of loading. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Aborts loading, which is then rejected with the code `aborted`. */
  signal?: AbortSignal | undefined;
  /** The folder with the package's `wasm` files. Default: where the bundler has put them. */
  wasmUrl?: string | URL | undefined;
  /**
   * The folder with `cifar10.safetensors`, `cifar10-noheads.safetensors` and `imagenet.safetensors`. Default: where the
   * bundler has put the package's models, of which `imagenet` is none.
   */
  modelUrl?: string | URL | undefined;
  /** The address of the package's `worker.js`. Default: where the bundler has put it. */
  workerUrl?: string | URL | undefined;
}

/** The options of `net.classify`. */
export interface ClassifyOptions {
  /** The number of classes to return. Default: 5. */
  top?: number;
  /** The part of the picture that the network sees. Default: `center`. */
  crop?: Crop;
  /** Aborts the call, which is then rejected with the code `aborted`. */
  signal?: AbortSignal | undefined;
}

/** The options of `net.classifyMany`. */
export interface ClassifyManyOptions extends ClassifyOptions {
  /** The number of pictures that run at once. Each takes about 20 MB. Default: 1. */
  batch?: number;
  /** Is called with the number of pictures that are done. */
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
}

/** How long loading took: the milliseconds from its start to the end of each phase. */
export interface LoadTimes {
  /** Until the model was downloaded. */
  download: number;
  /** Until the engine was compiled. */
  compile: number;
  /** Until the engine had the weights and could run. */
  ready: number;
}

/** The properties of a loaded network and of the backend that it runs on. */
export interface Info {
  /** The backend that the network runs on. */
  backend: 'webgpu' | 'wasm';
  /** The GPU's name, or the wasm backend's instruction set. */
  adapter: string;
  /** The reason for this backend, as a sentence. */
  reason: string;
  /** The number of threads that share the work; it is 1 on WebGPU. */
  threads: number;
  /** Whether the network multiplies in half precision, which the option `f16` asks for. */
  f16: boolean;
  /** The model's name. */
  model: string;
  /** The variant of GoogLeNet: `keras`, `keras_v2`, `caffe` or `torchvision`. */
  variant: string;
  /** The number of classes. */
  classes: number;
  /** The name of each class. */
  labels: string[];
  /** The names of the heads: `loss1` and `loss2` where the model has them, and `loss3`, the network's main output. */
  heads: string[];
  /** The assumptions that were made where the model file states nothing. */
  notes: string[];
  /** Where the model comes from, if its file says so. */
  source: string | null;
  /** The model's licence, if its file says so. */
  license: string | null;
  /** The height and the width of the network's input, in pixels. */
  size: number;
  /** The number of parameters. */
  parameters: number;
  /**
   * The addresses of the engine's files that were fetched, except its scripts. A page can keep them for offline use.
   */
  files: string[];
  /** How long loading took. */
  ms: LoadTimes;
}

/** A class and its probability. */
export interface Class {
  /** The class's index in `info.labels`. */
  index: number;
  /** The class's name. */
  label: string;
  /** The probability, from 0 to 1. */
  probability: number;
}

/** The answer of one head. */
export interface HeadAnswer {
  /** The head's name: `loss1`, `loss2` or `loss3`. */
  name: string;
  /** The most probable classes, in descending order. */
  top: Class[];
}

/** How long a run took, in milliseconds. */
export interface RunTimes {
  /** The time to turn the pixels into the network's input. */
  preprocess: number;
  /** The time from the input to the probabilities. */
  run: number;
}

/** The network's answer for a picture. */
export interface Answer {
  /** The most probable classes, in descending order. */
  top: Class[];
  /** The answers of all heads; the last one is the network's main output. */
  heads: HeadAnswer[];
  /** How long the run took; for a batch, the time of all its pictures together. */
  ms: RunTimes;
}

/** The network's answer for a picture while branches are scaled. */
export interface Ablation extends Answer {
  /** The most probable classes of the unchanged network. */
  before: Class[];
  /** The probabilities that the unchanged network gives to the classes of `top`; subtract them for the change. */
  untouched: number[];
}

/** A layer of the network. */
export interface Layer {
  /** The layer's name, as in Caffe: `inception_3a/5x5_reduce`. */
  layer: string;
  /** The layer's operation. */
  kind: string;
  /** The shape of the layer's output for one picture. */
  shape: [height: number, width: number, channels: number];
  /** The number of parameters. */
  params: number;
  /** The number of multiply-adds for one picture. */
  macs: number;
  /**
   * The receptive field: the height and width, in pixels of the network's input (`info.size` each way), of what a cell
   * sees. The cell in row `y`, column `x` sees the rows from `start[0] + y * jump[0]` up to, but without,
   * `start[0] + y * jump[0] + field[0]`, and the columns likewise. Whatever of it lies outside the input is padding.
   */
  field: [height: number, width: number];
  /** The distance between the receptive fields of neighbouring cells, in pixels of the input. */
  jump: [down: number, right: number];
  /** The origin of the first cell's receptive field, in pixels of the input. It is negative by the padding. */
  start: [top: number, left: number];
  /** The names of the layers that this one reads. */
  inputs: string[];
  /** The inception module, such as `inception_3a`; null in the stem and the tail. */
  module: string | null;
  /** The branch of the module: `1x1`, `3x3`, `5x5` or `pool`; null outside of branches. */
  branch: string | null;
}

/** The output of a layer for one picture. */
export interface Activation {
  /** The values in the order of `shape`: the channels of a cell are adjacent. */
  data: Float32Array;
  /** The shape of the output. */
  shape: [height: number, width: number, channels: number];
}

/** Statistics of a layer's output for one picture: one value for each channel, computed over the cells of its map. */
export interface ChannelStats {
  /** The mean. */
  mean: Float32Array;
  /** The maximum. */
  max: Float32Array;
  /** The minimum. */
  min: Float32Array;
  /** The share of cells that are exactly zero, from 0 to 1: after ReLU, those that do not respond. */
  zeros: Float32Array;
}

/** The options of `net.draw`, which draws a contact sheet: one tile for each channel. */
export interface DrawOptions {
  /** The layer whose output is drawn; any of `net.layers`. */
  layer: string;
  /**
   * The channels in the order in which they are drawn, row by row, e.g. sorted by `net.stats` or `net.contributions`. A
   * channel may appear twice. Default: all channels.
   */
  channels?: ArrayLike<number>;
  /** The number of tiles in a row. Default: as many as make the sheet about square. */
  columns?: number;
  /** The size of a cell of the map, in pixels of the sheet each way. Default: 1. */
  scale?: number;
  /** The width of the transparent gap between tiles, in pixels. Default: 1. */
  gap?: number;
  /** How values are mapped to colours. Default: `viridis`. */
  colormap?: Colormap;
  /**
   * The values at the ends of the colour map: the range of each channel, the range of all drawn channels, or two
   * values. The latter makes several sheets comparable; `net.stats` has the range of each channel. Default: `channel`.
   */
  range?: 'channel' | 'sheet' | readonly [low: number, high: number];
  /** The index of the picture in the last batch. Default: 0. */
  image?: number;
}

/** A branch of the last module, as a range of the module's output channels: `from` up to, but without, `to`. */
export interface Branch {
  /** The branch: `1x1`, `3x3`, `5x5` or `pool`. */
  branch: string;
  /** Its first channel. */
  from: number;
  /** The channel after its last. */
  to: number;
}

/** A branch's part of a class activation map. */
export interface BranchMap extends Branch {
  /** The values of the map, row by row. */
  data: Float64Array;
}

/** A branch's part of a class's score. */
export interface BranchSum extends Branch {
  /** The sum of its channels' contributions. */
  sum: number;
}

/** A class activation map. The mean of `data` and `bias` add up to the class's logit. */
export interface ActivationMap {
  /** The values of the map, row by row. */
  data: Float64Array;
  /** The shape of the map. */
  shape: [height: number, width: number];
  /** The class's bias, which is the same for every picture. */
  bias: number;
  /** The maps of the last module's branches, which add up to `data`. */
  branches: BranchMap[];
}

/** The contributions of channels to a class's score: `bias` and all of `channels` add up to `logit`. */
export interface Contributions {
  /** The class's score before softmax. */
  logit: number;
  /** The class's bias, which is the same for every picture. */
  bias: number;
  /** The contribution of each channel of the last module: its weight times its mean. */
  channels: Float64Array;
  /** The sum over each branch of the last module. */
  branches: BranchSum[];
}

/** How long a step of a run took. A step is named by the layer whose output it writes. */
export interface StepTime {
  /** The layer's name. */
  node: string;
  /** The time in milliseconds; with several threads, the sum over them. */
  ms: number;
  /** The algorithm, on the wasm backend. */
  algorithm?: string;
  /**
   * The multiply-adds that the algorithm executes for a picture; the layer's `macs` are those of direct convolution.
   */
  executed?: number;
}

/** The detail of the event `devicelost`. */
export interface DeviceLost {
  /** What happened. */
  message: string;
  /** What the network runs on now. */
  info: Info;
}

/** The events of a network, for `net.on`. */
export interface Events {
  /**
   * The GPU was lost, failed, or did not answer for 20 s. By then the network has been set up again on `info.backend`,
   * it has run the last picture again, and the call in progress is answered.
   */
  devicelost: DeviceLost;
}

/** The answer for a picture, or the error that prevented it. */
export type Outcome = Answer | GoogLeNetError;

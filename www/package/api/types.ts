// What the package takes and gives.

import type { GoogLeNetError } from './errors.js';

/**
 * Where to run: `auto` takes the GPU where there is a real one, and WebAssembly otherwise. `gpu` and `cpu` are other
 * names of `webgpu` and `wasm`.
 */
export type Backend = 'auto' | 'webgpu' | 'wasm' | 'gpu' | 'cpu';

/**
 * The instruction set of the wasm path: the best that the browser has, plain SIMD, or relaxed SIMD, whose
 * multiply-add rounds once where the processor can.
 */
export type Simd = 'auto' | 'plain' | 'relaxed';

/**
 * What of the picture the network sees: the square at its `center`, all of it pressed into a square (`squash`), or
 * all of it in its own proportions (`fit`), the rest of the square in the mean colour.
 */
export type Crop = 'center' | 'squash' | 'fit';

/** How values become colours. `diverging` has its middle at zero. */
export type Colormap = 'viridis' | 'grey' | 'diverging';

/** A file that can be fetched, with what is known of it. */
export interface RemoteFile {
  /** Its address; a relative one is relative to the page. */
  url: string | URL;
  /** SHA-256 of the file in hex. With it the file is checked, and kept in Cache Storage under this hash. */
  sha256?: string | undefined;
}

/** A model that can be fetched. */
export interface ModelFile extends RemoteFile {
  /** A copy without auxiliary heads, which is fetched where those are not wanted. */
  noHeads?: RemoteFile | undefined;
}

/**
 * A model: `cifar10` (bundled, ten everyday classes), `imagenet` (BVLC's thousand classes, from where `modelUrl` says),
 * a file's address, or the file itself. Safetensors, or a file of Keras, Caffe or ONNX.
 */
export type Model = 'cifar10' | 'imagenet' | (string & {}) | URL | ModelFile | ArrayBuffer | Uint8Array | Blob;

/** RGBA bytes, row by row from the top, as `ImageData` has them; in Node there is nothing else. */
export interface Pixels {
  /** `4 * width * height` bytes. */
  data: Uint8ClampedArray | Uint8Array;
  /** In pixels. */
  width: number;
  /** In pixels. */
  height: number;
}

/**
 * A picture: a file, its address, an element that shows one, or pixels. Nothing is consumed: a bitmap or frame
 * remains yours to close.
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
 * How far loading has come. The phases come in this order; `loaded` and `total` are bytes, and `total` is `undefined`
 * where the server does not say.
 */
export interface Progress {
  /** `download` of the model, `compile` of the engine, `upload` of the weights to it, and `ready`. */
  phase: 'download' | 'compile' | 'upload' | 'ready';
  /** Bytes of this phase that are done. */
  loaded: number;
  /** Bytes of this phase. */
  total: number | undefined;
}

/**
 * What a file of another framework does not say. Input channel c is `(pixel * scale - mean[c]) / std[c]`, a pixel being 0
 * to 255.
 */
export interface Imported {
  /** Of each input channel, in the order of `order`; 0, 0, 0 where none was subtracted. */
  mean?: readonly [number, number, number];
  /** Of each input channel. Unasked 1. */
  std?: readonly [number, number, number];
  /** Factor of a pixel, before the mean is taken away. Unasked 1. */
  scale?: number;
  /** The order of the input's channels. Unasked `RGB`. */
  order?: 'RGB' | 'BGR';
  /** What the classes are called, in the order of the outputs. Unasked ImageNet's names where there are 1000, numbers otherwise. */
  labels?: readonly string[];
}

/** How to load a network. */
export interface LoadOptions {
  /** Unasked the bundled `cifar10`. */
  model?: Model;
  /** Where to run. Unasked `auto`. */
  backend?: Backend;
  /**
   * Of a model file that another framework has written, what it does not say itself. Without a mean, where the format
   * has none, loading fails with the code `import` and the detail `preprocessing`.
   */
  imported?: Imported | undefined;
  /**
   * Threads that share the work on the wasm path. Unasked one a core, at most 8. There is 1 where the page is not
   * cross-origin isolated, and where `worker` is false; `info.threads` says how many there are.
   */
  threads?: number | undefined;
  /**
   * Whether a GPU that can (`shader-f16`) keeps activations and weights in half precision and multiplies in it; sums and
   * probabilities are in single precision all the same. `info.f16` says whether it does. Unasked not. (That a file's
   * weights are stored so is the file's affair.)
   */
  f16?: boolean;
  /**
   * Whether the auxiliary heads are wanted, where the model has them. Without them there is less to run, and of the
   * bundled model 12 MB instead of 21 MB to download. Unasked they are.
   */
  heads?: boolean;
  /**
   * Whether {@link GoogLeNet.ablate} is going to be called: already its first call then runs only what lies downstream.
   * Each run copies every branch once for it. Unasked not.
   */
  ablation?: boolean;
  /** Whether to run in a worker. Unasked so, where there are workers; otherwise on the calling thread. */
  worker?: boolean;
  /**
   * Whether to measure, once the page is idle after the first answer, which kernels are fastest on this GPU, and to
   * keep that for the next visit. Unasked so; never on a software adapter.
   */
  tune?: boolean;
  /**
   * Whether a GPU must first compute part of a test picture as the CPU does, as drivers have been seen that do not.
   * Where it computes otherwise, `auto` goes on without it, and `webgpu` fails with `no-gpu`. By default
   * hardware is checked, and a software adapter is not.
   */
  check?: boolean;
  /**
   * Which instruction set the wasm path uses; for measuring. Unasked the relaxed one where there is one and it is
   * faster, which it is not in Node before 24.
   */
  simd?: Simd;
  /** Hears how far loading has come. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends the loading; it then rejects with the code `aborted`. */
  signal?: AbortSignal | undefined;
  /** The folder with the package's `wasm` files, where a bundler has put them elsewhere. */
  wasmUrl?: string | URL | undefined;
  /** The folder with `cifar10.safetensors`, `cifar10-noheads.safetensors` and `imagenet.safetensors`. */
  modelUrl?: string | URL | undefined;
  /** The package's `worker.js`, where a bundler has put it elsewhere. */
  workerUrl?: string | URL | undefined;
}

/** How to look at a picture. */
export interface ClassifyOptions {
  /** How many classes to give. Unasked 5. */
  top?: number;
  /** What of the picture the network sees. Unasked `center`. */
  crop?: Crop;
  /** Ends the call, which then rejects with the code `aborted`. */
  signal?: AbortSignal | undefined;
}

/** How to look at many pictures. */
export interface ClassifyManyOptions extends ClassifyOptions {
  /** How many pictures run at once. Each takes about 20 MB. Unasked 1. */
  batch?: number;
  /** Hears how many pictures are done. */
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
}

/** How long loading took: milliseconds from its start to the end of each phase. */
export interface LoadTimes {
  /** The model is there. */
  download: number;
  /** So is the engine. */
  compile: number;
  /** The weights are with it, and it can run. */
  ready: number;
}

/** What a loaded network is and what it runs on. */
export interface Info {
  /** What it runs on. */
  backend: 'webgpu' | 'wasm';
  /** The GPU's name, or the wasm path's instruction set. */
  adapter: string;
  /** Why this backend, in a sentence. */
  reason: string;
  /** Threads that share the work; 1 on WebGPU. */
  threads: number;
  /** Whether it multiplies in half precision, which `f16` asks for. */
  f16: boolean;
  /** The model's name. */
  model: string;
  /** Which of the GoogLeNets: `keras`, `keras_v2`, `caffe` or `torchvision`. */
  variant: string;
  /** How many classes it knows. */
  classes: number;
  /** A name for each class. */
  labels: string[];
  /** The names of its heads: `loss1` and `loss2`, where it has them, and `loss3`, the network's own answer. */
  heads: string[];
  /** What the model file does not say and was assumed. */
  notes: string[];
  /** Where the model comes from, if its file says so. */
  source: string | null;
  /** Its licence, if its file says so. */
  license: string | null;
  /** Height and width of the network's input in pixels. */
  size: number;
  /** How many parameters it has. */
  parameters: number;
  /** Addresses of the engine's files that were fetched, besides its scripts: a page may keep them for use offline. */
  files: string[];
  /** How long loading took. */
  ms: LoadTimes;
}

/** A class and how likely it is. */
export interface Class {
  /** Its place in `info.labels`. */
  index: number;
  /** Its name. */
  label: string;
  /** From 0 to 1. */
  probability: number;
}

/** What a head says of a picture. */
export interface HeadAnswer {
  /** `loss1`, `loss2` or `loss3`. */
  name: string;
  /** The likeliest classes, likeliest first. */
  top: Class[];
}

/** How long a run took, in milliseconds. */
export interface RunTimes {
  /** From pixels to the network's input. */
  preprocess: number;
  /** From there to the probabilities. */
  run: number;
}

/** What the network says of a picture. */
export interface Answer {
  /** The likeliest classes, likeliest first. */
  top: Class[];
  /** The same for every head, the network's own answer last. */
  heads: HeadAnswer[];
  /** How long it took; of several pictures that ran at once, all together. */
  ms: RunTimes;
}

/** What the network says of a picture when branches are weighed. */
export interface Ablation extends Answer {
  /** The likeliest classes of the network as it is. */
  before: Class[];
  /** What the network as it is gives the classes of `top`: subtract it for the change. */
  untouched: number[];
}

/** A layer of the network. */
export interface Layer {
  /** Caffe's name for it: `inception_3a/5x5_reduce`. */
  layer: string;
  /** What it does. */
  kind: string;
  /** Height, width, channels of what it gives. */
  shape: [height: number, width: number, channels: number];
  /** How many parameters it has. */
  params: number;
  /** Multiply-adds for one picture. */
  macs: number;
  /**
   * The receptive field: how many pixels of the network's input (`info.size` each way) a cell sees. The cell in row `y`,
   * column `x` sees the rows from `start[0] + y * jump[0]` up to, but without, as many plus `field[0]`, and the columns
   * from `start[1] + x * jump[1]` likewise. What of them lies outside the input is padding.
   */
  field: [height: number, width: number];
  /** Pixels of the input from a cell's field to the next's. */
  jump: [down: number, right: number];
  /** Where the first cell's field begins, in pixels of the input; below zero by as much as is padded. */
  start: [top: number, left: number];
  /** The layers it reads. */
  inputs: string[];
  /** `inception_3a` and the like; none in the stem and the tail. */
  module: string | null;
  /** The inception branch: `1x1`, `3x3`, `5x5` or `pool`. */
  branch: string | null;
}

/** What a layer gave for a picture. */
export interface Activation {
  /** In the order of `shape`: the channels of a cell are neighbours. */
  data: Float32Array;
  /** Height, width, channels. */
  shape: [height: number, width: number, channels: number];
}

/** What each channel of a layer gave for a picture: one value a channel, over the cells of its map. */
export interface ChannelStats {
  /** The average. */
  mean: Float32Array;
  /** The greatest value. */
  max: Float32Array;
  /** The least value. */
  min: Float32Array;
  /** The share of cells that are exactly zero, from 0 to 1: after ReLU, those that do not respond. */
  zeros: Float32Array;
}

/** A sheet of tiles, one a channel. */
export interface DrawOptions {
  /** Whose activations; any of `net.layers`. */
  layer: string;
  /**
   * Channels in the order in which they are drawn, row by row: sorted by `net.stats`, by `net.contributions` or as you
   * like; one may come twice. Unasked all.
   */
  channels?: ArrayLike<number>;
  /** Tiles in a row. Unasked as many as make the sheet about square. */
  columns?: number;
  /** Pixels that a cell of the map takes, each way. Unasked 1. */
  scale?: number;
  /** Transparent pixels between tiles. Unasked 1. */
  gap?: number;
  /** How values become colours. Unasked `viridis`. */
  colormap?: Colormap;
  /**
   * What the ends of the colours stand for: each channel's own extent, that of all drawn, or two values, as for several
   * sheets that are to be compared (`net.stats` has each layer's extent).
   */
  range?: 'channel' | 'sheet' | readonly [low: number, high: number];
  /** Which picture of the last batch. Unasked the first. */
  image?: number;
}

/** A part of the last module's output: channels `from` up to, but without, `to`. */
export interface Branch {
  /** `1x1`, `3x3`, `5x5` or `pool`. */
  branch: string;
  /** Its first channel. */
  from: number;
  /** The channel after its last. */
  to: number;
}

/** A branch's part of a class activation map. */
export interface BranchMap extends Branch {
  /** Row by row. */
  data: Float64Array;
}

/** A branch's part of a class's score. */
export interface BranchSum extends Branch {
  /** Of its channels' contributions. */
  sum: number;
}

/** Where in the picture a class's score comes from: `bias` and the mean of `data` make up its logit. */
export interface ActivationMap {
  /** Row by row. */
  data: Float64Array;
  /** Height, width. */
  shape: [height: number, width: number];
  /** What the class has in every picture. */
  bias: number;
  /** The same of each branch of the last module alone; they add up to `data`. */
  branches: BranchMap[];
}

/** Which channels a class's score comes from: `bias` and all of `channels` add up to `logit`. */
export interface Contributions {
  /** The class's score before softmax. */
  logit: number;
  /** What the class has in every picture. */
  bias: number;
  /** One a channel of the last module: its weight times its mean. */
  channels: Float64Array;
  /** The sum over each branch of the last module. */
  branches: BranchSum[];
}

/** How long a step of a run took. A step is named by the layer whose output it writes. */
export interface StepTime {
  /** The layer's name. */
  node: string;
  /** On several threads, the time of all of them. */
  ms: number;
  /** How the wasm path computes it. */
  algorithm?: string;
  /** Multiply-adds that this takes, a picture; the layer's own count is that of the direct algorithm. */
  executed?: number;
}

/** A GPU was lost. */
export interface DeviceLost {
  /** What happened. */
  message: string;
  /** What the network runs on now. */
  info: Info;
}

/** What a network tells without being asked. */
export interface Events {
  /**
   * The GPU was lost, failed, or did not answer for 20 s. The network has been set up anew, on `info.backend`, the last
   * picture was run again, and the call under way is answered.
   */
  devicelost: DeviceLost;
}

/** A picture's answer, or why there is none. */
export type Outcome = Answer | GoogLeNetError;

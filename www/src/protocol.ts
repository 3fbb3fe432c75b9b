// What the page and its worker say to each other.

export type Backend = 'auto' | 'gpu' | 'cpu';
/**
 * Which of the CPU path's instruction sets: the best the browser has, plain SIMD, or relaxed SIMD, whose
 * multiply-add rounds once where the processor can.
 */
export type Simd = 'auto' | 'plain' | 'relaxed';
export type Crop = 'center' | 'squash' | 'fit';

/** A model file: its address, its address and that of a copy without auxiliary heads, or its bytes. */
export type ModelSource = string | { url: string; noHeads?: string | undefined } | Blob;

/** Pixels as the browser has them. */
export type Picture = Blob | ImageBitmap | ImageData;

/** How far loading has come. */
export type Progress =
  | { stage: 'download'; loaded: number; total: number | undefined }
  | { stage: 'prepare' };

/** What a loaded network is and what it runs on. */
export interface Info {
  backend: 'cpu' | 'gpu';
  /** The GPU's name, or the CPU path's instruction set. */
  adapter: string;
  /** Why this backend, in a sentence. */
  reason: string;
  /** Threads that share the CPU path's work; 1 on the GPU, and where the page is not cross-origin isolated. */
  threads: number;
  model: string;
  variant: string;
  classes: number;
  labels: string[];
  heads: string[];
  /** What the model file does not say and was assumed. */
  notes: string[];
  source: string | null;
  license: string | null;
  /** Height and width of the network's input. */
  size: number;
  parameters: number;
}

export interface Class {
  index: number;
  label: string;
  probability: number;
}

export interface Answer {
  /** The likeliest classes, likeliest first. */
  top: Class[];
  /** The same for every head, the network's own answer last. */
  heads: { name: string; top: Class[] }[];
  ms: { preprocess: number; run: number };
}

export interface Layer {
  layer: string;
  kind: string;
  /** Height, width, channels. */
  shape: [number, number, number];
  params: number;
  macs: number;
  inputs: string[];
  module: string | null;
  branch: string | null;
}

/** A layer's output: `data` in the order of `shape`. */
export interface Activation {
  data: Float32Array;
  /** Batch, height, width, channels. */
  shape: [number, number, number, number];
}

/** How long a step of a run took. A step is named by the layer whose output it writes. */
export interface StepTime {
  node: string;
  /** On several threads, the time of all of them. */
  ms: number;
  /** How the CPU path computes it. */
  algorithm?: string;
  /** Multiply-adds that this takes, a picture; the layer's own count is that of the direct algorithm. */
  executed?: number;
}

/** Every call to the worker: what goes in and what comes back. */
export interface Calls {
  load: {
    args: { model: string | Blob; backend: Backend; heads: boolean; threads: number | undefined; simd: Simd };
    result: Info;
  };
  /** The same model on another backend. */
  move: { args: { backend: Backend }; result: Info };
  classify: { args: { picture: Picture; crop: Crop; top: number }; result: Answer };
  run: { args: { values: Float32Array }; result: Record<string, Float32Array> };
  read: { args: { node: string }; result: Activation };
  layers: { args: Record<string, never>; result: Layer[] };
  /** The last run's steps, and whether the next are timed. */
  profile: { args: { timed: boolean }; result: StepTime[] };
  gain: { args: { branch: string; gain: number }; result: undefined };
}

export type Call = keyof Calls;

export type Request = { [C in Call]: { id: number; call: C; args: Calls[C]['args'] } }[Call];

export interface Failure {
  code: string;
  detail: string | undefined;
  message: string;
}

/** What a helper worker is given: the engine's module and its memory. */
export interface Shared {
  relaxed: boolean;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** What the page says: a call, or that the helpers have arrived which the worker summoned. */
export type Message = Request | { arrived: number };

/** `summon`: so many helpers are wanted. `fatal`: the worker cannot go on. */
export type Reply =
  | { id: number; result: unknown }
  | { id: number; error: Failure }
  | { id: number; progress: Progress }
  | { summon: number; shared: Shared }
  | { fatal: Failure };

// The messages between a network (`api/client.ts`) and the session that owns its engine (`session.ts`), which usually
// cross the boundary of a worker.

import type { Choice } from '../api/backend.js';
import type {
  Ablation, ActivationMap, Answer, Branch, Crop, Events, Info, Layer, Pixels, Progress, Simd, StepTime,
} from '../api/types.js';

/** A picture in a form that can be posted: a file, its address, a bitmap that the session then owns, or pixels. */
export type Picture = Blob | string | ImageBitmap | Pixels;

/** A model: its address, or its file. */
export type ModelLocation = { url: string; sha256: string | undefined } | Blob | Uint8Array;

/** What is known once a network is loaded. */
export interface Loaded {
  info: Info;
  layers: Layer[];
}

/** A contact sheet: a bitmap that was drawn on the GPU, or RGBA bytes. */
export type Sheet = ImageBitmap | { data: Uint8ClampedArray<ArrayBuffer>; width: number; height: number };

/** The arguments of `draw` as the engine takes them. */
export interface SheetOptions {
  layer: string;
  image: number;
  /** The channels to draw; none stands for all. */
  channels: Uint32Array;
  columns: number;
  scale: number;
  gap: number;
  colormap: string;
  /** Empty for each channel's own range, one number for the range of the sheet, or the two ends of the range. */
  range: number[];
}

/** The engine's explanation of a class's score: `ActivationMap` and `Contributions` in one. */
export interface Explanation {
  logit: number;
  bias: number;
  channels: number[];
  shape: ActivationMap['shape'];
  map: number[];
  branches: (Branch & { sum: number; map: number[] })[];
}

/** The options of a session, which stay the same for its life. */
export interface Settings {
  /** The option `imported`, as JSON. */
  imported: string;
  f16: boolean;
  heads: boolean;
  ablation: boolean;
  threads: number | undefined;
  simd: Simd;
  tune: boolean;
  check: boolean | undefined;
  /**
   * The absolute address of the folder with the wasm files; undefined where they are where the bundler has put them.
   */
  wasmUrl: string | undefined;
}

/** The calls to a session: the arguments and the result of each. */
export interface Calls {
  load: { args: { model: ModelLocation; backend: Choice; settings: Settings }; result: Loaded };
  /** Runs the same model on another backend. */
  move: { args: { backend: Choice }; result: Info };
  /** Classifies the pictures as one batch. The result of a picture that cannot be read is a failure. */
  classify: { args: { pictures: Picture[]; crop: Crop; top: number }; result: (Answer | Failure)[] };
  /** Returns the input of the classifier for one picture. */
  features: { args: { picture: Picture; crop: Crop }; result: Float32Array };
  run: { args: { values: Float32Array }; result: Record<string, Float32Array> };
  /** Returns a layer's output for the whole batch; `shape` is batch, height, width, channels. */
  read: { args: { layer: string }; result: { data: Float32Array; shape: [number, number, number, number] } };
  /** Returns four statistics of each channel for one picture of the batch, or the values of one channel. */
  stats: { args: { layer: string; image: number; channel: number | undefined }; result: { data: Float32Array } };
  draw: { args: SheetOptions; result: Sheet };
  explain: { args: { index: number }; result: Explanation };
  ablate: { args: { gains: Record<string, number>; top: number }; result: Ablation };
  /** Returns the times of the last run's steps, and sets whether the following runs are timed. */
  profile: { args: { timed: boolean }; result: StepTime[] };
}

export type Call = keyof Calls;

export type Request = { [C in Call]: { id: number; call: C; args: Calls[C]['args'] } }[Call];

/** An error as it is posted. */
export interface Failure {
  code: string;
  detail: string | undefined;
  message: string;
}

/** What a helper worker needs: the module of the engine, and the memory that the workers share. */
export interface SharedModule {
  relaxed: boolean;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/**
 * A message to the session: a call, that the caller no longer waits for a call, or how many of the helper workers that
 * the session has asked for have arrived.
 */
export type Message = Request | { cancel: number } | { arrived: number };

/**
 * A message from the session: the result, error or progress of a call, or an event. `helpers` asks the page to start
 * that many helper workers. `ready` says that a worker listens. `fatal` says that the session cannot continue.
 */
export type Reply =
  | { id: number; result: unknown }
  | { id: number; error: Failure }
  | { id: number; progress: Progress }
  | { event: keyof Events; detail: Events[keyof Events] }
  | { helpers: number; shared: SharedModule }
  | { ready: true }
  | { fatal: Failure };

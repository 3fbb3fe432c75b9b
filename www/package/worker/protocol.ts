// What a network and the session that owns its engine say to each other, mostly across a worker's boundary.

import type {
  Ablation, ActivationMap, Answer, Backend, Branch, Crop, Events, Info, Layer, Pixels, Progress, Simd,
  StepTime,
} from '../api/types.js';

/** A picture as it can be posted: a file, its address, a bitmap that is the session's own, or pixels. */
export type Picture = Blob | string | ImageBitmap | Pixels;

/** Where a model is, or the model. */
export type ModelPlace = { url: string; sha256: string | undefined } | Blob | Uint8Array;

/** What is known once a network is loaded. */
export interface Loaded {
  info: Info;
  layers: Layer[];
}

/** A sheet of tiles: what the GPU has drawn, or RGBA. */
export type Sheet = ImageBitmap | { data: Uint8ClampedArray<ArrayBuffer>; width: number; height: number };

/** `draw`'s arguments as the engine takes them. */
export interface SheetOptions {
  layer: string;
  image: number;
  channels: Uint32Array;
  columns: number;
  scale: number;
  gap: number;
  colormap: string;
  /** Empty for each channel's own range, one number for that of the sheet, or its ends. */
  range: number[];
}

/** Why a class: `ActivationMap` and `Contributions` in one. */
export interface Explanation {
  logit: number;
  bias: number;
  channels: number[];
  shape: ActivationMap['shape'];
  map: number[];
  branches: (Branch & { sum: number; map: number[] })[];
}

/** Every call to the session: what goes in and what comes back. */
export interface Calls {
  load: {
    args: {
      model: ModelPlace;
      /** As JSON. */
      imported: string;
      backend: Backend;
      f16: boolean;
      heads: boolean;
      ablation: boolean;
      threads: number | undefined;
      simd: Simd;
      tune: boolean;
      check: boolean | undefined;
      wasmUrl: string | undefined;
    };
    result: Loaded;
  };
  /** The same model on another backend. */
  move: { args: { backend: Backend }; result: Info };
  /** All pictures at once; those that cannot be read have their failure. */
  classify: { args: { pictures: Picture[]; crop: Crop; top: number }; result: (Answer | Failure)[] };
  /** Of one picture, what the classifier reads. */
  features: { args: { picture: Picture; crop: Crop }; result: Float32Array };
  run: { args: { values: Float32Array }; result: Record<string, Float32Array> };
  /** Of the whole batch. */
  read: { args: { layer: string }; result: { data: Float32Array; shape: [number, number, number, number] } };
  /** Of one picture of the batch, four numbers of each channel, or the values of one. */
  stats: { args: { layer: string; image: number; channel: number | undefined }; result: { data: Float32Array } };
  draw: { args: SheetOptions; result: Sheet };
  explain: { args: { index: number }; result: Explanation };
  ablate: { args: { gains: Record<string, number>; top: number }; result: Ablation };
  /** The last run's steps, and whether the next are timed. */
  profile: { args: { timed: boolean }; result: StepTime[] };
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

/** What the page says: a call, that nobody waits for it any more, or that the helpers have arrived which were summoned. */
export type Message = Request | { cancel: number } | { arrived: number };

/** `ready`: a worker listens. `summon`: so many helpers are wanted. `fatal`: the session cannot go on. */
export type Reply =
  | { id: number; result: unknown }
  | { id: number; error: Failure }
  | { id: number; progress: Progress }
  | { event: keyof Events; detail: Events[keyof Events] }
  | { summon: number; shared: Shared }
  | { ready: true }
  | { fatal: Failure };

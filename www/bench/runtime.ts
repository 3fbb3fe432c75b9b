// The interface of everything that is measured.

export type Variant = 'caffe' | 'keras';

/** A network that is ready to run. */
export interface Net {
  /** Runs an input in the runtime's own layout; resolves to the probabilities. */
  run(input: Float32Array): Promise<Float32Array>;
  close(): void;
  /** The multiply-adds of a picture, as direct convolutions count them. Only our engine has it. */
  macs?(): Promise<number>;
  /** The steps of a run. Only our engine has it. */
  steps?(input: Float32Array): Promise<Step[]>;
}

/** The time of a step, and what it computed. */
export interface Step {
  node: string;
  /** The kind of the step's layer: `conv`, `max pool`. */
  kind: string;
  algorithm?: string;
  ms: number;
  /** The multiply-adds that were executed. */
  executed: number;
  /** The multiply-adds of a direct convolution. */
  macs: number;
}

export interface Runtime {
  name: string;
  /** The npm package whose version is reported. */
  package: string;
  threads: number;
  /** The layout of the input: channels last, or channels first. */
  layout: 'hwc' | 'chw';
  /** The height and the width of a picture. */
  size: number;
  /** The number of pictures in a run. */
  batch: number;
  open(variant: Variant): Promise<Net>;
}

/** The address at which the files of `make_peers.py` are served. */
export const model = (file: string): string => new URL(`/assets/models/${file}`, location.href).href;

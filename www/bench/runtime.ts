// What is measured, behind one interface.

export type Variant = 'caffe' | 'keras';

/** A network ready to run. */
export interface Net {
  /** From an input in the runtime's own layout to the probabilities. */
  run(input: Float32Array): Promise<Float32Array>;
  close(): void;
  /** Multiply-adds a picture, as direct convolutions count them. Ours only. */
  macs?(): Promise<number>;
  /** The steps of a run. Ours only. */
  steps?(input: Float32Array): Promise<Step[]>;
}

/** What a step took, and what it did for that. */
export interface Step {
  node: string;
  /** What its layer is: `conv`, `max pool`. */
  kind: string;
  algorithm?: string;
  ms: number;
  /** Multiply-adds really executed. */
  executed: number;
  /** Those of direct convolutions. */
  macs: number;
}

export interface Runtime {
  name: string;
  /** The npm package whose version counts. */
  package: string;
  threads: number;
  /** What the input is: height, width, channels, or channels first. */
  layout: 'hwc' | 'chw';
  /** Height and width of a picture. */
  size: number;
  /** Pictures a run. */
  batch: number;
  open(variant: Variant): Promise<Net>;
}

/** Where `make_peers.py`'s files are served. */
export const model = (file: string): string => new URL(`/assets/models/${file}`, location.href).href;

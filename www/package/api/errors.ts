// The package's one class of errors, and how an error crosses the boundary of a worker.

import type { Failure } from '../worker/protocol.js';

/**
 * An error with a stable `code` for programs and a sentence for people.
 *
 * | code | what is wrong |
 * | --- | --- |
 * | `argument`, `unknown-node` | an argument; the sentence says which one and why |
 * | `image` | the picture cannot be read |
 * | `download`, `integrity` | the model, the engine or the picture cannot be fetched; the model does not match its hash |
 * | `format`, `metadata`, `missing-tensor`, `extra-tensor`, `tensor-shape`, `tensor-type`, `not-finite`, `shape`, `import` | the model file |
 * | `memory` | there is not enough memory for so many pictures at a time |
 * | `no-gpu`, `gpu` | there is no usable GPU; the GPU failed |
 * | `no-simd` | the browser lacks WebAssembly SIMD, or relaxed SIMD where that was asked for |
 * | `aborted`, `closed` | a signal ended the call (`name` is then `AbortError`); the network was freed |
 * | `internal` | a bug in the engine; the network cannot be used any more |
 */
export class GoogLeNetError extends Error {
  /** What is wrong, for programs: see the table above. */
  readonly code: string;
  /** The layer, tensor, metadata key or address that the error is about, where there is one. */
  readonly detail: string | undefined;

  /** Creates an error. Only the package does this; an application catches it. */
  constructor(
    { code, detail, message }: { code: string; detail?: string | undefined; message: string },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = code === 'aborted' ? 'AbortError' : 'GoogLeNetError';
    this.code = code;
    this.detail = detail;
  }
}

/** Turns whatever was thrown into an object that can be posted to another thread. */
export function failure(thrown: unknown): Failure {
  if (thrown instanceof Error) {
    const { code, detail } = thrown as Partial<Failure>;
    // Only the package's and the engine's errors have a code; anything else is a bug.
    return {
      code: typeof code === 'string' ? code : 'internal',
      detail: typeof detail === 'string' ? detail : undefined,
      message: thrown.message,
    };
  }
  return { code: 'internal', detail: undefined, message: String(thrown) };
}

/** Creates the error for an argument that is not valid. */
export function argumentError(message: string): GoogLeNetError {
  return new GoogLeNetError({ code: 'argument', message });
}

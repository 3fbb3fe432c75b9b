import type { Failure } from '../worker/protocol.js';

/**
 * An error with a stable `code` for programs and a sentence for people.
 *
 * | code | what is wrong |
 * | --- | --- |
 * | `argument`, `unknown-node` | what was handed in; the sentence says which and why |
 * | `image` | the picture cannot be read |
 * | `download`, `integrity` | the model, the engine or the picture cannot be fetched; the model is not what its hash says |
 * | `format`, `metadata`, `missing-tensor`, `extra-tensor`, `tensor-shape`, `tensor-type`, `not-finite`, `shape`, `import` | the model file |
 * | `memory` | there is no room for so many pictures at a time |
 * | `no-gpu`, `gpu` | there is no usable GPU; it failed |
 * | `no-simd` | the browser lacks this |
 * | `aborted`, `closed` | a signal ended the call (`name` is then `AbortError`); the network was freed |
 * | `internal` | a fault of ours; the network is gone with it |
 */
export class GoogLeNetError extends Error {
  /** What is wrong, for programs: see the table above. */
  readonly code: string;
  /** The layer, tensor, metadata key or address it is about, where there is one. */
  readonly detail: string | undefined;

  /** Made by the package; an application only catches it. */
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

/** Whatever was thrown, as something that can be posted. */
export function failure(thrown: unknown): Failure {
  if (thrown instanceof Error) {
    const { code, detail } = thrown as Partial<Failure>;
    // Only our own errors and the engine's carry a code; anything else is a fault.
    return {
      code: typeof code === 'string' ? code : 'internal',
      detail: typeof detail === 'string' ? detail : undefined,
      message: thrown.message,
    };
  }
  return { code: 'internal', detail: undefined, message: String(thrown) };
}

/** An argument that cannot be. */
export function bad(message: string): GoogLeNetError {
  return new GoogLeNetError({ code: 'argument', message });
}

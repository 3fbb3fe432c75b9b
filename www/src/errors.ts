import type { Failure } from './protocol';

/** An error with a stable `code` for programs and a sentence for people. */
export class GoogLeNetError extends Error {
  readonly code: string;
  /** The layer, tensor or metadata key it is about, where there is one. */
  readonly detail: string | undefined;

  constructor({ code, detail, message }: Failure) {
    super(message);
    this.name = 'GoogLeNetError';
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

// The one retry policy for a GPU that fails.

import { failure } from '../api/errors.js';
import type { Failure } from '../worker/protocol.js';

/** The attempts of {@link withRetries}. */
export interface Attempts<T> {
  /** The first attempt, on the GPU. */
  run: () => Promise<T>;
  /** The second attempt, on a new device of the GPU. */
  runOnNewDevice: () => Promise<T>;
  /** The last attempt, on the CPU. It gets the failure of the attempt before it. */
  runOnCpu: (failure: Failure) => Promise<T>;
  /**
   * Says whether the CPU may take over after a failure of the GPU; `attempts` is the number of attempts that failed.
   */
  mayUseCpu: (failure: Failure, attempts: number) => boolean;
}

/**
 * Runs something on the GPU. Where that fails with the code `gpu`, the device may have been lost, and a new one is
 * tried once; where there is no new one or it fails too, that is no accident, and the CPU takes over if it may. Throws
 * the error of the last attempt.
 */
export async function withRetries<T>({ run, runOnNewDevice, runOnCpu, mayUseCpu }: Attempts<T>): Promise<T> {
  let error: unknown;
  let attempts = 0;
  for (const attempt of [run, runOnNewDevice]) {
    if (attempts > 0 && failure(error).code !== 'gpu') break;
    try {
      return await attempt();
    } catch (thrown) {
      error = thrown;
      attempts++;
    }
  }
  if (!mayUseCpu(failure(error), attempts)) throw error;
  return runOnCpu(failure(error));
}

// A limit to the time that a GPU has to answer.

import { GoogLeNetError } from '../api/errors.js';

/** Resolves as `work` does. Rejects with the code `gpu` where `work` is still running after `ms` milliseconds. */
export async function withTimeout<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    const message = `The GPU did not answer within ${ms / 1000} s.`;
    timer = setTimeout(() => reject(new GoogLeNetError({ code: 'gpu', message })), ms);
  });
  // A rejection after the timeout is ignored.
  work.catch(() => {});
  return Promise.race([work, timeout]).finally(() => clearTimeout(timer));
}

// What comes of a model file goes to the GPU while the rest is downloaded.

import { joined } from './bytes.js';
import type { Warm } from './engines.js';

/** A file that is being downloaded. */
export interface Coming {
  chunks: Uint8Array[];
  loaded: number;
  total: number | undefined;
}

/** Bytes that are worth a step. */
const STEP = 1 << 20;

/** The longest file that is believed to be one before it is there: five times BVLC's with its heads. */
const MOST = 256 << 20;

export class Arrival {
  readonly #heads: boolean;
  readonly #auto: boolean;
  #warm: Warm | undefined;
  #ended = false;
  #file: Coming | undefined;
  /** The chunks that were handed over are these, and so many of them. */
  #chunks: Uint8Array[] | undefined;
  #count = 0;
  #at = 0;
  #last = Promise.resolve();

  constructor(warm: Promise<Warm | undefined>, heads: boolean, auto: boolean) {
    [this.#heads, this.#auto] = [heads, auto];
    void warm.then((warm) => {
      // Once it has ended, others have the GPU.
      if (this.#ended) return;
      this.#warm = warm;
      this.#more();
    });
  }

  /** Tells that more has come. */
  came(file: Coming): void {
    this.#file = file;
    this.#more();
  }

  /** Waits until nothing is under way; then no more is handed over. Gives whether the GPU has all of the file. */
  async end(): Promise<boolean> {
    this.#ended = true;
    await this.#last;
    const { loaded, total } = this.#file ?? {};
    if (loaded === total && this.#handed !== total) await this.#step();
    const whole = this.#warm !== undefined && this.#handed > 0 && this.#handed === total;
    this.#warm = undefined;
    return whole;
  }

  /** Bytes of the file that were handed over. A download that begins anew makes it another one. */
  get #handed(): number {
    return this.#file?.chunks === this.#chunks ? this.#at : 0;
  }

  #more(): void {
    this.#last = this.#last.then(async () => {
      if (!this.#ended && (this.#file?.loaded ?? 0) - this.#handed >= STEP) await this.#step();
    });
  }

  /** Hands over what has come since the last time. */
  async #step(): Promise<void> {
    const { chunks, total = 0 } = this.#file ?? {};
    if (!this.#warm || !chunks || !total || total > MOST) return;
    if (chunks !== this.#chunks) [this.#chunks, this.#count, this.#at] = [chunks, 0, 0];
    const fresh = chunks.slice(this.#count);
    const bytes = joined(fresh);
    try {
      if (!(await this.#warm.take(bytes, this.#at, total, this.#heads, this.#auto))) this.#warm = undefined;
    } catch {
      // Loading says what is wrong.
      this.#warm = undefined;
    }
    this.#count += fresh.length;
    this.#at += bytes.length;
  }
}

// Measures which kernels are fastest on this machine's GPU, once nothing has been asked for a while, and keeps the
// result for the next visit.

import type { Info } from '../api/types.js';
import { isTunable, type Engine } from '../loading/engines.js';
import type { Network } from '../loading/network.js';
import type { Queue } from './queue.js';
import { readTuning, writeTuning } from './tuning-store.js';

/** The milliseconds without a call after which kernels are measured. */
const IDLE = 1500;

/** Measures kernels once, and sets engines to the fastest ones. */
export class Tuner {
  readonly #network: Network;
  readonly #queue: Queue;
  /** Whether kernels are still to be measured. */
  #wanted = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `queue` gets the measurement as a task, so that it does not overlap with a call. */
  constructor(network: Network, queue: Queue) {
    this.#network = network;
    this.#queue = queue;
  }

  /** Sets whether kernels are measured. They are not where the result cannot be kept. */
  enable(wanted: boolean): void {
    this.#wanted = wanted && 'indexedDB' in globalThis;
  }

  /** Sets an engine to the kernels that an earlier visit has found fastest, if there was one. */
  async recall(engine: Engine): Promise<void> {
    if (!this.#wanted || !isTunable(engine)) return;
    try {
      const choices = await readTuning((engine.info() as Info).adapter);
      if (choices) await engine.set_tuning(choices);
      this.#wanted = !choices;
    } catch {
      // The choices are of another version, and are measured again.
    }
  }

  /** Measures kernels as soon as nothing has been asked for a while. */
  schedule(): void {
    if (!this.#wanted) return;
    this.cancel();
    this.#timer = setTimeout(() => void this.#queue.add(() => this.#measure()), IDLE);
  }

  /** Does not measure yet, since something is asked. */
  cancel(): void {
    clearTimeout(this.#timer);
  }

  /** Measures no kernels from now on. */
  disable(): void {
    this.#wanted = false;
    this.cancel();
  }

  async #measure(): Promise<void> {
    if (!this.#wanted || !this.#network.isLoaded) return;
    const { engine } = this.#network;
    if (!isTunable(engine)) return;
    this.#wanted = false;
    try {
      const choices = await engine.tune();
      if (choices) await writeTuning(this.#network.info.adapter, choices);
    } catch (error) {
      // The default kernels stay in use.
      console.warn('GoogLeNet could not measure its kernels:', error);
    }
  }
}

// Runs pictures. On a GPU the pictures of one call may start before those of the call before it are answered.

import { failure } from '../api/errors.js';
import type { Answer, Crop, Pixels } from '../api/types.js';
import { concatenate } from '../loading/bytes.js';
import type { Engine } from '../loading/engines.js';
import type { Network } from '../loading/network.js';
import type { Recovery } from '../recovery/recovery.js';
import type { Queue } from './queue.js';

/** How to classify pictures. */
interface Options {
  crop: Crop;
  top: number;
  /** Lets the next call begin, which otherwise begins when these pictures are answered. */
  release?: () => void;
}

/**
 * A run that has started. The engine returns its promise in an array, so that starting it does not await the answers.
 */
type Started = [answers: Promise<Answer[]>];

/** Classifies pictures, and lets the runs of successive calls overlap. */
export class Classifier {
  readonly #network: Network;
  readonly #recovery: Recovery;
  readonly #queue: Queue;
  /** Resolves when the run that has started last is answered, or has failed. */
  #lastRun: Promise<unknown> = Promise.resolve();
  /** The number of runs that have started and are not answered yet. */
  #pendingRuns = 0;

  /** `queue` gets the pictures again whose run has failed. */
  constructor({ network, recovery, queue }: { network: Network; recovery: Recovery; queue: Queue }) {
    this.#network = network;
    this.#recovery = recovery;
    this.#queue = queue;
  }

  /** Resolves when every run that has started is answered, or has failed. */
  async finish(): Promise<void> {
    await this.#lastRun;
  }

  /** Classifies pictures as one batch. */
  async classify(pictures: Pixels[], { crop, top, release }: Options): Promise<Answer[]> {
    const [only] = pictures;
    const rgba = pictures.length === 1 && only ? bytes(only) : concatenate(pictures.map(bytes));
    const sizes = Uint32Array.from(pictures.flatMap(({ width, height }) => [width, height]));
    const start = (engine: Engine) => engine.classify(rgba, sizes, crop, top) as Promise<Started>;
    const run = async (engine: Engine) => (await start(engine))[0];
    const { engine } = this.#network;
    if (!release || this.#recovery.hasFailed(engine)) {
      const answers = await this.#recovery.run(run, pictures.length);
      this.#recovery.rememberRun(run, rgba.length);
      return answers;
    }
    try {
      const [answers] = await this.#recovery.watch(start(engine), pictures.length);
      this.#recovery.rememberRun(run, rgba.length);
      return await this.#overlap(answers, pictures.length, release);
    } catch (error) {
      if (failure(error).code !== 'gpu') throw error;
      this.#recovery.markFailed(engine, error);
      // The calls that have come meanwhile are run before these pictures are run again.
      release();
      return this.#queue.add(() => this.classify(pictures, { crop, top }));
    }
  }

  /** Waits for the answers of a run; the next call may begin once the run before this one is answered. */
  #overlap(answers: Promise<Answer[]>, pictures: number, release: () => void): Promise<Answer[]> {
    // The runs before this one may still be on the GPU, and take their time first.
    const answered = this.#recovery.watch(answers, pictures * ++this.#pendingRuns).finally(() => this.#pendingRuns--);
    const before = this.#lastRun;
    this.#lastRun = answered.catch(() => {});
    void before.then(release);
    return answered;
  }
}

/** Returns a picture's bytes without copying them. */
function bytes({ data }: Pixels): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

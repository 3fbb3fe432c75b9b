// Runs work on the engine in use. Where the GPU fails or does not answer, the network is set up again, and the work is
// repeated there.

import type { EngineKind } from '../api/backend.js';
import { failure } from '../api/errors.js';
import type { DeviceLost } from '../api/types.js';
import { isOnGpu, type Engine } from '../loading/engines.js';
import type { Network } from '../loading/network.js';
import { withRetries } from './retry.js';
import { withTimeout } from './watchdog.js';

/** Work on an engine, which can be repeated on another one. */
export type Work<T> = (engine: Engine) => Promise<T>;

/** The milliseconds that a hardware GPU and a software adapter have to run a picture. */
const HARDWARE_TIMEOUT = 20_000;
const SOFTWARE_TIMEOUT = 300_000;

/** The bytes of pictures that are kept for the case that the GPU is lost. */
const MAX_KEPT_BYTES = 100 << 20;

/** Runs work on a network's engine, and repeats it on another engine where the GPU fails. */
export class Recovery {
  readonly #network: Network;
  readonly #onLost: (detail: DeviceLost) => void;
  /** An engine whose GPU is known to have failed, and its error. */
  #failed: { engine: Engine; error: unknown } | undefined;
  /** Runs the last picture, where the engine is on a GPU. */
  #lastRun: Work<unknown> | undefined;
  /** Scales the branches as the last call of `ablate` did. */
  #lastGains: Work<unknown> | undefined;

  /** `onLost` is called when the network has been set up again after a failure of the GPU. */
  constructor(network: Network, onLost: (detail: DeviceLost) => void) {
    this.#network = network;
    this.#onLost = onLost;
  }

  /** Says whether an engine's GPU is known to have failed. */
  hasFailed(engine: Engine): boolean {
    return this.#failed?.engine === engine;
  }

  /** Makes the next work on an engine fail with this error, so that it is repeated on another engine. */
  markFailed(engine: Engine, error: unknown): void {
    this.#failed = { engine, error };
  }

  /** Runs work on a number of pictures. */
  run<T>(work: Work<T>, pictures: number): Promise<T> {
    return this.#run(work, pictures, undefined);
  }

  /** Runs work that builds on the last picture, which is run again first where the network is set up again. */
  runOnLastPicture<T>(work: Work<T>): Promise<T> {
    return this.#run(work, 1, this.#lastRun);
  }

  /** Keeps how the last picture was run, where the engine is on a GPU and the picture is not huge. */
  rememberRun(work: Work<unknown>, bytes: number): void {
    this.#lastRun = isOnGpu(this.#network.engine) && bytes <= MAX_KEPT_BYTES ? work : undefined;
  }

  /** Keeps how the branches are scaled; undefined where they are not. */
  rememberGains(work: Work<unknown> | undefined): void {
    this.#lastGains = work;
  }

  /** Rejects with the code `gpu` where work on a GPU takes longer than the given number of pictures may. */
  async watch<T>(work: Promise<T>, pictures: number): Promise<T> {
    if (!isOnGpu(this.#network.engine)) return work;
    return withTimeout(work, (this.#network.isOnHardware ? HARDWARE_TIMEOUT : SOFTWARE_TIMEOUT) * pictures);
  }

  async #run<T>(work: Work<T>, pictures: number, replay: Work<unknown> | undefined): Promise<T> {
    const { engine } = this.#network;
    /** The message of the first failure, which the event reports even where setting the network up again fails once. */
    let message = '';
    const runHere = async () => {
      try {
        if (this.#failed?.engine === engine) throw this.#failed.error;
        return await this.watch(work(engine), pictures);
      } catch (error) {
        message = failure(error).message;
        throw error;
      }
    };
    const runOn = async (backend: EngineKind) => {
      const info = await this.#network.restart(backend);
      const { engine } = this.#network;
      if (replay || this.#lastGains) await this.watch((replay ?? work)(engine), pictures);
      if (this.#lastGains) await this.watch(this.#lastGains(engine), pictures);
      const result = await this.watch(work(engine), pictures);
      this.#failed = undefined;
      this.#onLost({ message, info });
      return result;
    };
    return withRetries({
      run: runHere,
      runOnNewDevice: () => runOn('gpu'),
      runOnCpu: () => runOn('cpu'),
      // A first failure of another kind than the GPU's is about the arguments.
      mayUseCpu: (_, attempts) => attempts > 1,
    });
  }
}

// The engine as a page sees it: a promise for every call, answered by a worker.

import { GoogLeNetError } from './errors';
import type {
  Activation, Answer, Backend, Call, Calls, Crop, Failure, Info, Layer, ModelSource, Picture, Progress, Reply,
  Shared, Simd, StepTime,
} from './protocol';

export { GoogLeNetError } from './errors';
export type * from './protocol';

export interface LoadOptions {
  /** A model file: its address, or the file itself. Safetensors, or what the importers read. */
  model: ModelSource;
  /**
   * Whether the auxiliary heads are wanted, where the model has them. Without them there is less to run,
   * and where the model names a copy without heads, only that is downloaded.
   */
  heads?: boolean;
  /** Where to run; `auto` takes the GPU where there is a real one. */
  backend?: Backend;
  /**
   * Threads that share the work on the CPU. Unasked one a core, at most 8; 1 where the page is not
   * cross-origin isolated. `info.threads` says how many there are.
   */
  threads?: number;
  /** Which instruction set the CPU path uses; for measuring. */
  simd?: Simd;
  onProgress?: (progress: Progress) => void;
}

export interface ClassifyOptions {
  /** How many classes to give. */
  top?: number;
  /** What of the picture the network sees. */
  crop?: Crop;
}

interface Waiting {
  resolve: (result: unknown) => void;
  reject: (error: GoogLeNetError) => void;
  onProgress: ((progress: Progress) => void) | undefined;
}

/** What to load: an address in full, since a worker's own is another than the page's. */
function place(model: ModelSource, heads: boolean): string | Blob {
  if (model instanceof Blob) return model;
  const address = typeof model === 'string' ? model : ((!heads && model.noHeads) || model.url);
  return new URL(address, document.baseURI).href;
}

/** A loaded network. */
export class GoogLeNet {
  readonly #worker: Worker;
  /** Of the engine in force. Those before them have left with theirs. */
  #helpers: Worker[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #dead: GoogLeNetError | undefined;
  #info: Info | undefined;

  private constructor() {
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'googlenet' });
    this.#worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => this.#receive(data));
    this.#worker.addEventListener('error', (event) => {
      event.preventDefault();
      const reason = event.message || 'its file could not be loaded';
      this.#die({ code: 'internal', detail: undefined, message: `The engine could not start: ${reason}.` });
    });
  }

  /** Downloads a model and readies it. Rejects with a {@link GoogLeNetError} that says what is wrong. */
  static async load(options: LoadOptions): Promise<GoogLeNet> {
    const { model, heads = true, backend = 'auto', threads, simd = 'auto', onProgress } = options;
    const net = new GoogLeNet();
    try {
      const args = { model: place(model, heads), backend, heads, threads, simd };
      net.#info = await net.#call('load', args, onProgress);
      return net;
    } catch (error) {
      net.close();
      throw error;
    }
  }

  /** What the network is and what it runs on. */
  get info(): Info {
    if (!this.#info) throw new Error('a network is loaded before anyone has it');
    return this.#info;
  }

  /** Whether a fault or `close` has ended it; a new one must be loaded. */
  get closed(): boolean {
    return this.#dead !== undefined;
  }

  /** Moves to another backend; where that fails it goes on with the one it has. */
  async move(backend: Backend, onProgress?: (progress: Progress) => void): Promise<Info> {
    this.#info = await this.#call('move', { backend }, onProgress);
    return this.#info;
  }

  /** Says what is in a picture. A bitmap is consumed. */
  classify(picture: Picture, { top = 5, crop = 'center' }: ClassifyOptions = {}): Promise<Answer> {
    const transfer = picture instanceof ImageBitmap ? [picture] : [];
    return this.#call('classify', { picture, top, crop }, undefined, transfer);
  }

  /** Runs the network's input as it is (HWC), and gives each head's probabilities. */
  run(values: Float32Array): Promise<Record<string, Float32Array>> {
    return this.#call('run', { values });
  }

  /** What a layer gave in the last run. */
  read(node: string): Promise<Activation> {
    return this.#call('read', { node });
  }

  layers(): Promise<Layer[]> {
    return this.#call('layers', {});
  }

  /**
   * How long each step of the last run took, in order. Runs are timed from the first call of this on, as
   * measuring costs: before it there is nothing to give. `profile(false)` ends that.
   */
  profile(timed = true): Promise<StepTime[]> {
    return this.#call('profile', { timed });
  }

  /** Multiplies what a branch, named by its last layer, hands on, from the next run. */
  setGain(branch: string, gain: number): Promise<void> {
    return this.#call('gain', { branch, gain });
  }

  /** Ends the worker and its helpers. Calls under way are rejected. */
  close(): void {
    this.#die({ code: 'closed', detail: undefined, message: 'The network was closed.' });
  }

  #call<C extends Call>(
    call: C,
    args: Calls[C]['args'],
    onProgress?: (progress: Progress) => void,
    transfer: Transferable[] = [],
  ): Promise<Calls[C]['result']> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#next++;
    return new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, call, args }, transfer);
    }) as Promise<Calls[C]['result']>;
  }

  #receive(reply: Reply): void {
    if ('fatal' in reply) return this.#die(reply.fatal);
    if ('summon' in reply) return void this.#summon(reply.summon, reply.shared);
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    if ('progress' in reply) return waiting.onProgress?.(reply.progress);
    this.#waiting.delete(reply.id);
    if ('result' in reply) return waiting.resolve(reply.result);
    waiting.reject(new GoogLeNetError(reply.error));
    // After a panic the engine's memory is in no known state.
    if (reply.error.code === 'internal') this.#die(reply.error);
  }

  /** Starts helpers for the worker, and tells it when all have arrived, or those that will. */
  async #summon(count: number, shared: Shared): Promise<void> {
    this.#helpers = Array.from({ length: count }, () => {
      return new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'googlenet-helper' });
    });
    const arrivals = await Promise.all(this.#helpers.map((helper) => this.#arrival(helper, shared)));
    this.#worker.postMessage({ arrived: arrivals.filter(Boolean).length });
  }

  /** Whether a helper arrives. */
  #arrival(helper: Worker, shared: Shared): Promise<boolean> {
    return new Promise((resolve) => {
      let arrived = false;
      helper.addEventListener('message', () => resolve((arrived = true)));
      helper.addEventListener('error', (event) => {
        event.preventDefault();
        resolve(false);
        const message = `A helper of the engine failed: ${event.message || 'its file could not be loaded'}.`;
        // Before its arrival nobody counts on it.
        if (arrived) this.#die({ code: 'internal', detail: undefined, message });
        else console.warn(message);
      });
      helper.postMessage(shared);
    });
  }

  #die(failure: Failure): void {
    if (this.#dead) return;
    this.#dead = new GoogLeNetError(failure);
    for (const worker of [this.#worker, ...this.#helpers]) worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(this.#dead);
    this.#waiting.clear();
  }
}

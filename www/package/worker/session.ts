// A session owns an engine and answers calls. It usually runs in a worker, and otherwise on the calling thread.

import { failure } from '../api/errors.js';
import { isOnGpu, type StartHelpers } from '../loading/engines.js';
import { Network } from '../loading/network.js';
import { Recovery } from '../recovery/recovery.js';
import { Classifier } from './classifier.js';
import { createHandlers, type Handler, type Handlers } from './handlers.js';
import type { Call, Reply, Request } from './protocol.js';
import { Queue } from './queue.js';
import { Tuner } from './tuner.js';

/** The number of runs before the first picture on the CPU, after which browsers have compiled the code for speed. */
const WARM_UPS = 3;

/** Sends a reply, and transfers parts of it. */
type Post = (reply: Reply, transfer?: Transferable[]) => void;

/** Takes calls, and answers each one by its handler in the order of the queue. */
export class Session {
  readonly #post: Post;
  readonly #isInWorker: boolean;
  readonly #queue = new Queue();
  readonly #network: Network;
  readonly #classifier: Classifier;
  readonly #tuner: Tuner;
  readonly #handlers: Handlers;
  /** Is aborted when the session is freed. */
  readonly #ended = new AbortController();
  /** The number of calls that have come and are not answered yet. */
  #pendingCalls = 0;
  /** The ids of calls that the caller no longer waits for. */
  readonly #cancelled = new Set<number>();

  /** `post` sends a reply. `startHelpers` starts helper workers; without it the session is on the calling thread. */
  constructor(post: Post, startHelpers?: StartHelpers) {
    this.#post = post;
    this.#isInWorker = startHelpers !== undefined;
    const queue = this.#queue;
    const network = new Network({ startHelpers, signal: this.#ended.signal, beforeUse: (engine) => this.#tuner.recall(engine) });
    const recovery = new Recovery(network, (detail) => post({ event: 'devicelost', detail }));
    this.#network = network;
    this.#tuner = new Tuner(network, queue);
    this.#classifier = new Classifier({ network, recovery, queue });
    this.#handlers = createHandlers({ network, recovery, classifier: this.#classifier, tuner: this.#tuner });
  }

  /** Receives a call, or the message that the caller no longer waits for one. */
  receive(message: Request | { cancel: number }): void {
    this.#tuner.cancel();
    if ('cancel' in message) {
      this.#cancelled.add(message.cancel);
      return;
    }
    this.#pendingCalls++;
    void this.#queue.add((release) => this.#answer(message, release).finally(() => this.#pendingCalls--));
  }

  /** Frees the engine, once the call in progress has ended. */
  free(): void {
    this.#ended.abort();
    this.#tuner.disable();
    void this.#queue.add(async () => this.#network.free());
  }

  /** Runs the handler of a call, and sends its result or its error. */
  async #answer({ id, call, args }: Request, release: () => void): Promise<void> {
    // Every other call refers to the last picture, which must be answered first.
    if (call !== 'classify') await this.#classifier.finish();
    if (this.#cancelled.delete(id) || this.#ended.signal.aborted) return;
    try {
      const handler = this.#handlers[call] as Handler<Call>;
      const result = await handler(args, (progress) => this.#post({ id, progress }), release);
      this.#post({ id, result }, transferables(result));
    } catch (thrown) {
      this.#post({ id, error: failure(thrown) });
    }
    this.#cancelled.delete(id);
    if (this.#ended.signal.aborted) return;
    if (call === 'classify') this.#tuner.schedule();
    if (call === 'load' || call === 'move') this.#warmUp();
  }

  /**
   * Adds runs of an engine on the CPU to the queue, for the time until the first picture. Only a worker does this,
   * since the calling thread must not be blocked.
   */
  #warmUp(): void {
    if (!this.#isInWorker || !this.#network.isLoaded || isOnGpu(this.#network.engine)) return;
    const { engine } = this.#network;
    const run = async () => {
      // Messages that have come meanwhile are received first.
      await new Promise((resolve) => setTimeout(resolve));
      const isCurrent = this.#network.isLoaded && this.#network.engine === engine;
      if (this.#pendingCalls > 0 || !isCurrent || this.#ended.signal.aborted) return;
      // Where this fails, so does the first picture, which reports why.
      await engine.warm_up().catch(() => {});
    };
    for (let i = 0; i < WARM_UPS; i++) void this.#queue.add(run);
  }
}

/** Lists the parts of a result that are transferred instead of being copied. */
function transferables(result: unknown): Transferable[] {
  if (globalThis.ImageBitmap && result instanceof ImageBitmap) return [result];
  const { data } = (result ?? {}) as { data?: unknown };
  return ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [];
}

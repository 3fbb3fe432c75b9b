/// <reference lib="esnext.disposable" preserve="true" />
// The class GoogLeNet: each of its methods is a call to a session, which answers it.

import { inThisThread, inWorker, type Channel } from '../worker/channel.js';
import type { Call, Calls, Failure, Loaded, Picture, Reply } from '../worker/protocol.js';
import { toChoice } from './backend.js';
import { GoogLeNetError, argumentError } from './errors.js';
import { directory, locateModel } from './models.js';
import { toPicture, transferables } from './sources.js';
import { formatLayers } from './summary.js';
import type {
  Ablation, Activation, ActivationMap, Answer, Backend, ClassifyManyOptions, ClassifyOptions, ChannelStats, Contributions,
  Crop, DrawOptions, Events, Info, Layer, LoadOptions, Outcome, Progress, Source, StepTime,
} from './types.js';

/** A call that is not answered yet. */
interface PendingCall {
  resolve: (result: unknown) => void;
  reject: (error: GoogLeNetError) => void;
  onProgress: ((progress: Progress) => void) | undefined;
}

interface CallOptions {
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** The parts of the arguments that are transferred instead of being copied. */
  transfer?: Transferable[];
}

type Listener<E extends keyof Events> = (detail: Events[E]) => void;

/**
 * A loaded GoogLeNet.
 *
 * Methods may be called at any time: the calls are run one after the other, in the order in which they were made. Only
 * pictures on a GPU overlap, two at a time. Every error is a {@link GoogLeNetError}; an error about a picture or an
 * argument leaves the network as it was.
 *
 * @example
 * ```ts
 * const net = await GoogLeNet.load();
 * const { top } = await net.classify(file);
 * console.log(top[0].label, top[0].probability);
 * net.free();
 * ```
 */
export class GoogLeNet {
  #channel: Channel | undefined;
  readonly #pending = new Map<number, PendingCall>();
  readonly #listeners = new Map<keyof Events, Set<Listener<keyof Events>>>();
  #nextId = 0;
  /** The error with which every call is rejected since `free` or a fatal error. */
  #closed: GoogLeNetError | undefined;
  #loaded: Loaded | undefined;

  private constructor() {}

  /**
   * Downloads a model and prepares it to run.
   *
   * @param options - Which model to load, where to run it, and callbacks. Every option may be left out.
   * @returns A network that is ready to classify. Free it when it is no longer needed.
   * @throws {@link GoogLeNetError} where the model, the connection or the requested backend fails.
   */
  static async load(options: LoadOptions = {}): Promise<GoogLeNet> {
    const { backend = 'auto', heads = true, ablation = false, f16 = false, threads, simd = 'auto', tune = true, check } = options;
    const { imported = {}, onProgress, signal, wasmUrl, workerUrl, worker = typeof Worker !== 'undefined' } = options;
    const choice = toChoice(backend);
    const model = locateModel(options);
    const net = new GoogLeNet();
    try {
      const listener = (reply: Reply) => net.#receive(reply);
      net.#channel = worker ? inWorker(listener, workerUrl) : await inThisThread(listener);
      const folder = wasmUrl === undefined ? undefined : directory(wasmUrl);
      const settings = { imported: JSON.stringify(imported), f16, heads, ablation, threads, simd, tune, check, wasmUrl: folder };
      net.#loaded = await net.#call('load', { model, backend: choice, settings }, { onProgress, signal });
      return net;
    } catch (error) {
      net.free();
      throw error;
    }
  }

  /** The properties of the network and of the backend that it runs on. */
  get info(): Info {
    return this.#ready().info;
  }

  /** The network's layers, in the order in which they run. */
  get layers(): readonly Layer[] {
    return this.#ready().layers;
  }

  /** Whether `free` or a fatal error has closed the network; then a new one must be loaded. */
  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** Returns the layers as a text table with their output shapes, parameters, multiply-adds and inputs. */
  summary(): string {
    return formatLayers(this.layers);
  }

  /**
   * Moves the network to another backend. It stays on the current one where that fails.
   *
   * @param backend - The backend to run on.
   * @returns The properties of the network on its new backend.
   */
  async move(backend: Backend, { onProgress }: Pick<LoadOptions, 'onProgress'> = {}): Promise<Info> {
    const info = await this.#call('move', { backend: toChoice(backend) }, { onProgress });
    this.#ready().info = info;
    return info;
  }

  /**
   * Classifies a picture.
   *
   * @param source - A file, its address, an element that shows it, or pixels. In Node only pixels are possible.
   */
  async classify(source: Source, { top = 5, crop = 'center', signal }: ClassifyOptions = {}): Promise<Answer> {
    const [answer] = await this.#classify([await toPicture(source)], { top, crop, signal });
    if (!answer || answer instanceof GoogLeNetError) throw answer;
    return answer;
  }

  /**
   * Classifies many pictures. Each batch is decoded while the one before it runs.
   *
   * @param sources - The pictures.
   * @returns The answers in the order of the pictures; for a picture that cannot be read, its error.
   */
  async classifyMany(sources: Iterable<Source>, options: ClassifyManyOptions = {}): Promise<Outcome[]> {
    const { batch = 1, top = 5, crop = 'center', onProgress, signal } = options;
    if (!Number.isInteger(batch) || batch < 1) throw argumentError(`There cannot be ${batch} pictures in a batch.`);
    const all = [...sources];
    const outcomes: Outcome[] = [];
    const running: Promise<Outcome[]>[] = [];
    const finishFirst = async () => {
      outcomes.push(...(await running.shift()!));
      onProgress?.({ done: outcomes.length, total: all.length });
    };
    for (let at = 0; at < all.length; at += batch) {
      const read = await Promise.all(all.slice(at, at + batch).map((source) => toPicture(source).catch(asError)));
      const pictures = read.filter((picture): picture is Picture => !(picture instanceof GoogLeNetError));
      const answers = pictures.length > 0 ? this.#classify(pictures, { top, crop, signal }) : Promise.resolve([]);
      const answered = answers.then((answers) =>
        read.map((picture) => (picture instanceof GoogLeNetError ? picture : answers.shift()!)));
      // If an earlier batch fails, this promise is never awaited; its own rejection is then no news.
      answered.catch(() => {});
      running.push(answered);
      if (running.length > 1) await finishFirst();
    }
    while (running.length > 0) await finishFirst();
    return outcomes;
  }

  /**
   * Returns the input of the classifier for a picture: the means of the last module's 1024 channels.
   *
   * @param source - The picture, as for {@link GoogLeNet.classify}.
   */
  async features(source: Source, { crop = 'center', signal }: Omit<ClassifyOptions, 'top'> = {}): Promise<Float32Array> {
    const picture = await toPicture(source);
    return this.#call('features', { picture, crop }, { signal, transfer: transferables(picture) });
  }

  /**
   * Returns a layer's output for the last picture.
   *
   * @param layer - The name of any of {@link GoogLeNet.layers}.
   * @param image - The index of the picture in the last batch. Default: 0.
   */
  async activation(layer: string, image = 0): Promise<Activation> {
    const { data, shape: [n, ...shape] } = await this.#call('read', { layer });
    if (!(image >= 0 && image < n)) throw argumentError(`There is no picture ${image} in a batch of ${n}.`);
    const length = data.length / n;
    return { data: n === 1 ? data : data.slice(image * length, (image + 1) * length), shape };
  }

  /**
   * Returns the mean, the maximum and the minimum of each channel of a layer's output for the last picture, and the
   * share of zeros in it. They are computed where the network runs, so that less data is copied than by
   * {@link GoogLeNet.activation}.
   *
   * @param layer - The name of any of `net.layers`.
   * @param image - The index of the picture in the last batch. Default: 0.
   */
  async stats(layer: string, image = 0): Promise<ChannelStats> {
    const { data } = await this.#call('stats', { layer, image, channel: undefined });
    const [mean, max, min, zeros] = [0, 1, 2, 3].map((at) => data.filter((_, index) => index % 4 === at));
    return { mean: mean!, max: max!, min: min!, zeros: zeros! };
  }

  /**
   * Returns one channel of a layer's output for the last picture: the values of its map, row by row. Only this channel
   * is copied.
   *
   * @param layer - The name of any of `net.layers`.
   * @param channel - The channel's index.
   * @param image - The index of the picture in the last batch. Default: 0.
   */
  async channel(layer: string, channel: number, image = 0): Promise<Float32Array> {
    return (await this.#call('stats', { layer, image, channel })).data;
  }

  /**
   * Draws a contact sheet of a layer's output for the last picture, with a tile for each channel. The canvas takes the
   * size of the sheet. On WebGPU the GPU draws the sheet and nothing is read back, except for sheets of more than 8192
   * pixels a side or 32 MB, and on Chromium's software adapter.
   *
   * @param canvas - A canvas with a 2D context, or without a context.
   * @param options - The layer, and how to draw it.
   */
  async draw(canvas: HTMLCanvasElement | OffscreenCanvas, options: DrawOptions): Promise<void> {
    const { layer, channels = [], scale = 1, gap = 1, colormap = 'viridis', range = 'channel', image = 0 } = options;
    const count = channels.length || (this.layers.find((known) => known.layer === layer)?.shape[2] ?? 1);
    const { columns = Math.ceil(Math.sqrt(count)) } = options;
    const ends = { channel: [], sheet: [0] }[range as string] ?? [...(range as [number, number])];
    const sheet = { layer, image, channels: Uint32Array.from(channels), columns, scale, gap, colormap, range: ends };
    const drawn = await this.#call('draw', sheet);
    const { width, height } = drawn;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext('2d') as CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null;
    if (!context) throw argumentError('The canvas has a context that is not 2d.');
    if ('data' in drawn) return context.putImageData(new ImageData(drawn.data, width, height), 0, 0);
    context.drawImage(drawn, 0, 0);
    drawn.close();
  }

  /**
   * Returns the class activation map for the last picture: where in the picture the class's score comes from. It is
   * exact, since GoogLeNet ends in a global average pooling and one dense layer: the mean of the map and the bias add
   * up to the logit.
   *
   * @param classIndex - The class's index in `info.labels`.
   */
  async cam(classIndex: number): Promise<ActivationMap> {
    const { map, shape, bias, branches } = await this.#call('explain', { index: classIndex });
    const ofBranch = ({ branch, from, to, map }: (typeof branches)[number]) => {
      return { branch, from, to, data: Float64Array.from(map) };
    };
    return { data: Float64Array.from(map), shape, bias, branches: branches.map(ofBranch) };
  }

  /**
   * Returns the contribution of each channel of the last module to a class's score for the last picture. The bias and
   * all contributions add up to the logit.
   *
   * @param classIndex - The class's index in `info.labels`.
   */
  async contributions(classIndex: number): Promise<Contributions> {
    const { logit, bias, channels, branches } = await this.#call('explain', { index: classIndex });
    const ofBranch = ({ branch, from, to, sum }: (typeof branches)[number]) => ({ branch, from, to, sum });
    return { logit, bias, channels: Float64Array.from(channels), branches: branches.map(ofBranch) };
  }

  /**
   * Runs the last picture again with the outputs of branches multiplied by gains: 0 switches a branch off, 1 leaves it
   * unchanged. The gain of a branch that is not named is 1. Only what lies downstream of a changed gain is run; the
   * first call runs everything, unless the network was loaded with the option `ablation`. The gains stay in force for
   * all following calls until the next call of this method: `ablate({})` restores the network.
   *
   * @param gains - The gains by the name of each branch's last layer, e.g. `{ "inception_3a/1x1": 0 }`; the others end
   * in `/3x3`, `/5x5` and `/pool_proj`.
   */
  async ablate(gains: Record<string, number>, { top = 5, signal }: Omit<ClassifyOptions, 'crop'> = {}): Promise<Ablation> {
    return this.#call('ablate', { gains, top }, { signal });
  }

  /**
   * Runs the network on its input tensor, without preprocessing.
   *
   * @param values - One picture or several, each in the order height, width, channels, as preprocessing would return
   * them.
   * @returns The probabilities of each head, by its name.
   */
  run(values: Float32Array): Promise<Record<string, Float32Array>> {
    return this.#call('run', { values });
  }

  /**
   * Returns the time of each step of the last run, in order; after `ablate`, of the steps that were run again. Runs are
   * timed only after the first call of this method, since timing slows them down: the first call returns no steps.
   *
   * @param timed - Whether the following runs are timed. Default: true.
   */
  profile(timed = true): Promise<StepTime[]> {
    return this.#call('profile', { timed });
  }

  /**
   * Adds a listener for an event.
   *
   * @returns A function that removes the listener.
   */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Frees the network's memory and ends its workers. Calls in progress are rejected with the code `closed`. */
  free(): void {
    this.#close({ code: 'closed', detail: undefined, message: 'The network was freed.' });
  }

  /** Frees the network like {@link GoogLeNet.free}, at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.free();
  }

  #ready(): Loaded {
    // `load` returns a network only once this is set.
    return this.#loaded!;
  }

  async #classify(
    pictures: Picture[],
    { top, crop, signal }: { top: number; crop: Crop; signal: AbortSignal | undefined },
  ): Promise<Outcome[]> {
    const transfer = pictures.flatMap(transferables);
    const results = await this.#call('classify', { pictures, crop, top }, { signal, transfer });
    return results.map((result) => ('code' in result ? new GoogLeNetError(result) : result));
  }

  #call<C extends Call>(call: C, args: Calls[C]['args'], options: CallOptions = {}): Promise<Calls[C]['result']> {
    const { onProgress, signal, transfer = [] } = options;
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    const id = this.#nextId++;
    const cancel = () => {
      this.#channel?.post({ cancel: id }, []);
      this.#pending.get(id)?.reject(aborted(signal!));
      this.#pending.delete(id);
    };
    signal?.addEventListener('abort', cancel);
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress });
      this.#channel?.post({ id, call, args } as Parameters<Channel['post']>[0], transfer);
    });
    return answer.finally(() => signal?.removeEventListener('abort', cancel)) as Promise<Calls[C]['result']>;
  }

  #receive(reply: Reply): void {
    if ('fatal' in reply) return this.#close(reply.fatal);
    if ('event' in reply) return this.#dispatch(reply.event, reply.detail);
    if ('helpers' in reply || 'ready' in reply) return;
    const pending = this.#pending.get(reply.id);
    if (!pending) return;
    if ('progress' in reply) return pending.onProgress?.(reply.progress);
    this.#pending.delete(reply.id);
    if ('result' in reply) return pending.resolve(reply.result);
    pending.reject(new GoogLeNetError(reply.error));
    // After a panic the state of the engine's memory is unknown.
    if (reply.error.code === 'internal') this.#close(reply.error);
  }

  #dispatch<E extends keyof Events>(event: E, detail: Events[E]): void {
    if (this.#loaded) this.#loaded.info = detail.info;
    for (const listener of this.#listeners.get(event) ?? []) listener(detail);
  }

  /** Rejects all calls, those in progress and those to come. */
  #close(failure: Failure): void {
    if (this.#closed) return;
    this.#closed = new GoogLeNetError(failure);
    this.#channel?.close();
    for (const { reject } of this.#pending.values()) reject(this.#closed);
    this.#pending.clear();
  }
}

function aborted(signal: AbortSignal): GoogLeNetError {
  return new GoogLeNetError({ code: 'aborted', message: 'The call was aborted.' }, { cause: signal.reason });
}

/** Returns an error of the package as a value; throws any other. */
function asError(thrown: unknown): GoogLeNetError {
  if (thrown instanceof GoogLeNetError) return thrown;
  throw thrown;
}

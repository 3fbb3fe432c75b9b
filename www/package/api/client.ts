/// <reference lib="esnext.disposable" preserve="true" />
// A loaded network: a promise for every call, answered by a session.

import { elsewhere, here, type Channel } from '../worker/channel.js';
import { GoogLeNetError, bad } from './errors.js';
import { directory, place } from './models.js';
import type { Call, Calls, Failure, Loaded, Picture, Reply } from '../worker/protocol.js';
import { moved, picture } from './sources.js';
import { table } from './summary.js';
import type {
  Ablation, Activation, ActivationMap, Answer, Backend, ClassifyManyOptions, ClassifyOptions, ChannelStats, Contributions,
  Crop, DrawOptions, Events, Info, Layer, LoadOptions, Outcome, Progress, Source, StepTime,
} from './types.js';

interface Waiting {
  resolve: (result: unknown) => void;
  reject: (error: GoogLeNetError) => void;
  onProgress: ((progress: Progress) => void) | undefined;
}

interface CallOptions {
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  moved?: Transferable[];
}

type Listener<E extends keyof Events> = (detail: Events[E]) => void;

const BACKENDS = ['auto', 'webgpu', 'wasm', 'gpu', 'cpu'];

/**
 * A loaded GoogLeNet.
 *
 * Calls may come at any time: they are begun one after the other, in the order in which they came, and pictures on a
 * GPU two at a time. Every error is a {@link GoogLeNetError}; one about a picture or an argument leaves the network as
 * it was.
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
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Map<keyof Events, Set<Listener<keyof Events>>>();
  #next = 0;
  #dead: GoogLeNetError | undefined;
  #loaded: Loaded | undefined;

  private constructor() {}

  /**
   * Downloads a model and readies it.
   *
   * @param options - Which model, where to run, and what to tell meanwhile. All may be left out.
   * @returns A network that is ready to classify; free it when it is no longer needed.
   * @throws {@link GoogLeNetError} with what is wrong: the model, the connection, the GPU that was asked for.
   */
  static async load(options: LoadOptions = {}): Promise<GoogLeNet> {
    const { backend = 'auto', heads = true, ablation = false, f16 = false, threads, simd = 'auto', tune = true, check } = options;
    const { imported = {}, onProgress, signal, wasmUrl, workerUrl } = options;
    if (!BACKENDS.includes(backend)) throw bad(`"${backend}" is no backend; there are auto, webgpu and wasm.`);
    const { worker = typeof Worker !== 'undefined' } = options;
    const model = place(options);
    const net = new GoogLeNet();
    try {
      const listener = (reply: Reply) => net.#receive(reply);
      net.#channel = worker ? elsewhere(listener, workerUrl) : await here(listener);
      const folder = wasmUrl === undefined ? undefined : directory(wasmUrl);
      const args = { model, imported: JSON.stringify(imported), backend, f16, heads, ablation, threads, simd, tune, check, wasmUrl: folder };
      net.#loaded = await net.#call('load', args, { onProgress, signal });
      return net;
    } catch (error) {
      net.free();
      throw error;
    }
  }

  /** What the network is and what it runs on. */
  get info(): Info {
    return this.#ready().info;
  }

  /** The network's layers in the order in which they run. */
  get layers(): readonly Layer[] {
    return this.#ready().layers;
  }

  /** Whether `free` or a fault has ended it; a new one must be loaded. */
  get closed(): boolean {
    return this.#dead !== undefined;
  }

  /** The layers as a table to print: output shape, parameters, multiply-adds, what they are connected to. */
  summary(): string {
    return table(this.layers);
  }

  /**
   * Moves to another backend; where that fails it goes on with the one it has.
   *
   * @returns What it runs on now.
   */
  async move(backend: Backend, { onProgress }: Pick<LoadOptions, 'onProgress'> = {}): Promise<Info> {
    const info = await this.#call('move', { backend }, { onProgress });
    this.#ready().info = info;
    return info;
  }

  /**
   * Says what is in a picture.
   *
   * @param source - A file, its address, an element that shows it, or pixels. In Node: pixels.
   */
  async classify(source: Source, { top = 5, crop = 'center', signal }: ClassifyOptions = {}): Promise<Answer> {
    const [answer] = await this.#classify([await picture(source)], top, crop, signal);
    if (!answer || answer instanceof GoogLeNetError) throw answer;
    return answer;
  }

  /**
   * Says what is in each of many pictures.
   *
   * @param sources - The pictures, each looked at while the one before it is answered.
   * @returns In their order, an answer for each; where a picture cannot be read, its error.
   */
  async classifyMany(sources: Iterable<Source>, options: ClassifyManyOptions = {}): Promise<Outcome[]> {
    const { batch = 1, top = 5, crop = 'center', onProgress, signal } = options;
    if (!Number.isInteger(batch) || batch < 1) throw bad(`There cannot be ${batch} pictures in a batch.`);
    const all = [...sources];
    const outcomes: Outcome[] = [];
    const waiting: Promise<Outcome[]>[] = [];
    const next = async () => {
      outcomes.push(...(await waiting.shift()!));
      onProgress?.({ done: outcomes.length, total: all.length });
    };
    for (let at = 0; at < all.length; at += batch) {
      const read = await Promise.all(all.slice(at, at + batch).map((source) => picture(source).catch(asError)));
      const pictures = read.filter((picture): picture is Picture => !(picture instanceof GoogLeNetError));
      const answers = pictures.length > 0 ? this.#classify(pictures, top, crop, signal) : Promise.resolve([]);
      const answered = answers.then((answers) =>
        read.map((picture) => (picture instanceof GoogLeNetError ? picture : answers.shift()!)));
      // Where one fails, nobody asks for the other.
      answered.catch(() => {});
      waiting.push(answered);
      if (waiting.length > 1) await next();
    }
    while (waiting.length > 0) await next();
    return outcomes;
  }

  /**
   * What the classifier reads of a picture: the 1024 means of the last module's channels.
   *
   * @param source - As for {@link GoogLeNet.classify}.
   */
  async features(source: Source, { crop = 'center', signal }: Omit<ClassifyOptions, 'top'> = {}): Promise<Float32Array> {
    const posted = await picture(source);
    return this.#call('features', { picture: posted, crop }, { signal, moved: moved(posted) });
  }

  /**
   * What a layer gave for the last picture.
   *
   * @param layer - Any of {@link GoogLeNet.layers}, by its name.
   * @param image - Which picture of the last batch.
   */
  async activation(layer: string, image = 0): Promise<Activation> {
    const { data, shape: [n, ...shape] } = await this.#call('read', { layer });
    if (!(image >= 0 && image < n)) throw bad(`There is no picture ${image} in a batch of ${n}.`);
    const length = data.length / n;
    return { data: n === 1 ? data : data.slice(image * length, (image + 1) * length), shape };
  }

  /**
   * The mean, greatest and least value of each channel of what a layer gave for the last picture, and how much of it is
   * zero. Computed where the network is: less comes back than by {@link GoogLeNet.activation}.
   *
   * @param layer - Any of `net.layers`.
   * @param image - Which picture of the last batch.
   */
  async stats(layer: string, image = 0): Promise<ChannelStats> {
    const { data } = await this.#call('stats', { layer, image, channel: undefined });
    const [mean, max, min, zeros] = [0, 1, 2, 3].map((at) => data.filter((_, index) => index % 4 === at));
    return { mean: mean!, max: max!, min: min!, zeros: zeros! };
  }

  /**
   * One channel of what a layer gave for the last picture: the values of its map, row by row. Nothing else comes back.
   *
   * @param layer - Any of `net.layers`.
   * @param channel - From 0.
   * @param image - Which picture of the last batch.
   */
  async channel(layer: string, channel: number, image = 0): Promise<Float32Array> {
    return (await this.#call('stats', { layer, image, channel })).data;
  }

  /**
   * Draws channels of a layer as tiles, from what it gave for the last picture. The canvas takes the sheet's size. What
   * a GPU has computed it also draws, and nothing is read back; but for sheets of more than 8192 pixels a side or 32 MB,
   * and on Chromium's software adapter.
   *
   * @param canvas - With a 2D context, or none yet.
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
    if (!context) throw bad('The canvas has a context already that is not 2d.');
    if ('data' in drawn) return context.putImageData(new ImageData(drawn.data, width, height), 0, 0);
    context.drawImage(drawn, 0, 0);
    drawn.close();
  }

  /**
   * The class activation map: where in the last picture a class's score comes from. Exact, since GoogLeNet ends in an
   * average and one dense layer: the map's mean and the bias make up the logit.
   *
   * @param classIndex - The class's place in `info.labels`.
   */
  async cam(classIndex: number): Promise<ActivationMap> {
    const { map, shape, bias, branches } = await this.#call('explain', { index: classIndex });
    const ofBranch = ({ branch, from, to, map }: (typeof branches)[number]) => {
      return { branch, from, to, data: Float64Array.from(map) };
    };
    return { data: Float64Array.from(map), shape, bias, branches: branches.map(ofBranch) };
  }

  /**
   * Which channels of the last module a class's score comes from, for the last picture. The bias and all of them add up
   * to the logit.
   *
   * @param classIndex - The class's place in `info.labels`.
   */
  async contributions(classIndex: number): Promise<Contributions> {
    const { logit, bias, channels, branches } = await this.#call('explain', { index: classIndex });
    const ofBranch = ({ branch, from, to, sum }: (typeof branches)[number]) => ({ branch, from, to, sum });
    return { logit, bias, channels: Float64Array.from(channels), branches: branches.map(ofBranch) };
  }

  /**
   * Runs the last picture again with what branches hand on multiplied: 0 switches one off, 1 leaves it as it is.
   * Branches that are not named have 1. Only what lies downstream of a gain that has changed is run; the first time
   * everything is, unless the network was loaded with `ablation`. The gains stay, for whatever is run or read next, until the next call of this:
   * `ablate({})` restores the network.
   *
   * @param gains - By each branch's last layer: `{ "inception_3a/1x1": 0 }`; also `/3x3`, `/5x5` and `/pool_proj`.
   */
  async ablate(gains: Record<string, number>, { top = 5, signal }: Omit<ClassifyOptions, 'crop'> = {}): Promise<Ablation> {
    return this.#call('ablate', { gains, top }, { signal });
  }

  /**
   * Runs the network's input as it is.
   *
   * @param values - Height, width, channels of one picture or several, as the model's preprocessing leaves them.
   * @returns Each head's probabilities by its name.
   */
  run(values: Float32Array): Promise<Record<string, Float32Array>> {
    return this.#call('run', { values });
  }

  /**
   * How long each step of the last run took, in order; of `ablate`, those that were run again. Runs are timed from the first call of this on, as measuring costs:
   * before it there is nothing to give. `profile(false)` ends that.
   */
  profile(timed = true): Promise<StepTime[]> {
    return this.#call('profile', { timed });
  }

  /**
   * Calls back when something happens.
   *
   * @returns What ends that.
   */
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Frees all that the network holds, and ends its workers. Calls under way are rejected with the code `closed`. */
  free(): void {
    this.#die({ code: 'closed', detail: undefined, message: 'The network was freed.' });
  }

  /** The same as {@link GoogLeNet.free}, for `using`. */
  [Symbol.dispose](): void {
    this.free();
  }

  #ready(): Loaded {
    // Nobody has one before it is loaded.
    return this.#loaded!;
  }

  async #classify(pictures: Picture[], top: number, crop: Crop, signal?: AbortSignal): Promise<Outcome[]> {
    const moving = pictures.flatMap(moved);
    const results = await this.#call('classify', { pictures, crop, top }, { signal, moved: moving });
    return results.map((result) => ('code' in result ? new GoogLeNetError(result) : result));
  }

  #call<C extends Call>(call: C, args: Calls[C]['args'], options: CallOptions = {}): Promise<Calls[C]['result']> {
    const { onProgress, signal, moved = [] } = options;
    if (this.#dead) return Promise.reject(this.#dead);
    if (signal?.aborted) return Promise.reject(aborted(signal));
    const id = this.#next++;
    const abandon = () => {
      this.#channel?.post({ cancel: id }, []);
      this.#waiting.get(id)?.reject(aborted(signal!));
      this.#waiting.delete(id);
    };
    signal?.addEventListener('abort', abandon);
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#channel?.post({ id, call, args } as Parameters<Channel['post']>[0], moved);
    });
    return answer.finally(() => signal?.removeEventListener('abort', abandon)) as Promise<Calls[C]['result']>;
  }

  #receive(reply: Reply): void {
    if ('fatal' in reply) return this.#die(reply.fatal);
    if ('event' in reply) return this.#tell(reply.event, reply.detail);
    if ('summon' in reply || 'ready' in reply) return;
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    if ('progress' in reply) return waiting.onProgress?.(reply.progress);
    this.#waiting.delete(reply.id);
    if ('result' in reply) return waiting.resolve(reply.result);
    waiting.reject(new GoogLeNetError(reply.error));
    // After a panic the engine's memory is in no known state.
    if (reply.error.code === 'internal') this.#die(reply.error);
  }

  #tell<E extends keyof Events>(event: E, detail: Events[E]): void {
    if (this.#loaded) this.#loaded.info = detail.info;
    for (const listener of this.#listeners.get(event) ?? []) listener(detail);
  }

  #die(failure: Failure): void {
    if (this.#dead) return;
    this.#dead = new GoogLeNetError(failure);
    this.#channel?.close();
    for (const { reject } of this.#waiting.values()) reject(this.#dead);
    this.#waiting.clear();
  }
}

function aborted(signal: AbortSignal): GoogLeNetError {
  return new GoogLeNetError({ code: 'aborted', message: 'The call was aborted.' }, { cause: signal.reason });
}

function asError(thrown: unknown): GoogLeNetError {
  if (thrown instanceof GoogLeNetError) return thrown;
  throw thrown;
}

// Owns the engine and answers calls, one after the other; pictures on a GPU two at a time. In a worker as a rule; on the
// calling thread otherwise.

import { NO_WEBGPU, refusal } from '../loading/adapter.js';
import { Arrival } from '../loading/upload.js';
import { joined } from '../loading/bytes.js';
import { download } from '../loading/download.js';
import { compile, cpuModule, files, gpuModule, imagenet, wanted } from '../loading/engines.js';
import type { CpuModule, Engine, GpuEngine, GpuModule, ModelBytes, Summon, Wanted, Warm } from '../loading/engines.js';
import { GoogLeNetError, bad, failure } from '../api/errors.js';
import { pixels } from './pixels.js';
import { present, presents, type Resident } from './present.js';
import type { Call, Calls, Explanation, Loaded, ModelPlace, Reply, Request, Sheet } from './protocol.js';
import { keep, kept } from './tuning.js';
import type { Ablation, Answer, Info, Layer, Pixels, Progress, StepTime } from '../api/types.js';

type Report = (progress: Progress) => void;
type Replay = (engine: Engine) => Promise<unknown>;
/** `next` lets the call after this one begin, which it may otherwise once this one has ended. */
type Handler<C extends Call> = (args: Calls[C]['args'], report: Report, next: () => void) => Promise<Calls[C]['result']>;

/** What a safetensors file that is not ours is refused for: it may be another framework's. */
const FOREIGN = ['metadata', 'missing-tensor', 'extra-tensor', 'tensor-type'];

/** Errors for which the choice `auto` does not go on with the CPU: those about the file, and a fault of ours. */
const FINAL = ['format', ...FOREIGN, 'tensor-shape', 'not-finite', 'shape', 'import', 'internal'];

/** The layer that every GoogLeNet's classifier reads. */
const POOLED = 'pool5/7x7_s1';

/** The engine's names of the backends. */
const ENGINE: Record<string, string> = { webgpu: 'gpu', wasm: 'cpu' };
const BACKEND = { gpu: 'webgpu', cpu: 'wasm' } as const;

/** Milliseconds without a call after which kernels are measured. */
const IDLE = 1500;

/** Runs on the CPU before the first picture: after these, browsers have compiled the code for speed. */
const WARM_UPS = 3;

/** Milliseconds in which a GPU must have run a picture, and in which software that stands in for one must. */
const PATIENCE = 20_000;
const SLOW = 300_000;

/** Bytes of pictures that are kept for the case that the GPU is lost. */
const KEPT = 100 << 20;

/** Values of a picture, as the network takes it. */
const PICTURE = 224 * 224 * 3;

export class Session {
  readonly #post: (reply: Reply, moved?: Transferable[]) => void;
  readonly #summon: Summon | undefined;
  readonly #ended = new AbortController();
  /** Calls begin in the order in which they came, each when the one before it has ended or lets it. */
  #last: Promise<unknown> = Promise.resolve();
  /** The pictures that went to the GPU last: while they are answered, others can go there. */
  #flight: Promise<unknown> = Promise.resolve();
  #flights = 0;
  /** An engine whose GPU is known to fail, and how. */
  #failed: { engine: Engine; error: unknown } | undefined;
  /** Calls that have come and are not answered yet. */
  #pending = 0;
  /** Calls that nobody waits for any more. */
  readonly #cancelled = new Set<number>();

  /** The modules, once one was needed. */
  #cpu: Promise<CpuModule> | undefined;
  #gpu: Promise<GpuModule> | undefined;
  #engine: Engine | undefined;
  /** Why the choice `auto` took the CPU. */
  #reason: string | undefined;
  #warm: Promise<Warm | undefined> | undefined;
  /** The file that the opened GPU has all of. */
  #arrived: Uint8Array | undefined;
  /** Milliseconds for a picture. */
  #patience = PATIENCE;
  /** What was asked for. Kept so that a change of backend needs no second download. */
  #file: Uint8Array | undefined;
  #wasmUrl: string | undefined;
  #simd: Wanted['simd'] = 'auto';
  #imported = '{}';
  #threads = 1;
  /** Whether to measure kernels, and what waits for that. */
  #tune = false;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #withHeads = true;
  #check: boolean | undefined;
  #f16 = false;
  #ablation = false;
  #ms: Info['ms'] = { download: 0, compile: 0, ready: 0 };

  constructor(post: (reply: Reply, moved?: Transferable[]) => void, summon?: Summon) {
    this.#post = post;
    this.#summon = summon;
  }

  receive(message: Request | { cancel: number }): void {
    clearTimeout(this.#idle);
    if ('cancel' in message) {
      this.#cancelled.add(message.cancel);
      return;
    }
    this.#pending++;
    this.#last = this.#last.then(() => new Promise<void>((next) => void this.#answer(message, next).finally(next)));
  }

  /** Frees the engine, once the call under way has ended. */
  free(): void {
    this.#ended.abort();
    clearTimeout(this.#idle);
    void this.#last.then(() => {
      release(this.#engine);
      this.#engine = this.#file = undefined;
    });
  }

  async #answer(request: Request, next: () => void): Promise<void> {
    try {
      await this.#answered(request, next);
    } finally {
      this.#pending--;
    }
  }

  async #answered({ id, call, args }: Request, next: () => void): Promise<void> {
    // Whatever else is asked is about what has been answered.
    if (call !== 'classify') await this.#flight;
    if (this.#cancelled.delete(id) || this.#ended.signal.aborted) return;
    try {
      const handler = this.#handlers[call] as Handler<Call>;
      const result = await handler(args, (progress) => this.#post({ id, progress }), next);
      this.#post({ id, result }, movable(result));
    } catch (thrown) {
      this.#post({ id, error: failure(thrown) });
    }
    this.#cancelled.delete(id);
    if (this.#tune && call === 'classify') this.#tuneLater();
    if (call === 'load' || call === 'move') this.#warmUp();
  }

  /** Runs an engine on the CPU a few times before its first picture, while nobody waits. Only in a worker. */
  #warmUp(): void {
    const engine = this.#engine;
    if (!engine || isOnGpu(engine) || !this.#summon) return;
    const run = async () => {
      // What has come meanwhile is received first.
      await new Promise((resolve) => setTimeout(resolve));
      if (this.#pending > 0 || this.#engine !== engine || this.#ended.signal.aborted) return;
      // Where it fails, so does the first picture, and says why.
      await engine.warm_up().catch(() => {});
    };
    for (let i = 0; i < WARM_UPS; i++) this.#last = this.#last.then(run);
  }

  /** Measures kernels once nothing has been asked for a while. */
  #tuneLater(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#last = this.#last.then(() => this.#measure());
    }, IDLE);
  }

  async #measure(): Promise<void> {
    const engine = this.#engine;
    if (this.#ended.signal.aborted || !this.#tune || !engine || !tunes(engine)) return;
    this.#tune = false;
    try {
      const choices = await engine.tune();
      if (choices) await keep(this.#info().adapter, choices);
    } catch (error) {
      // The usual kernels do.
      console.warn('GoogLeNet could not measure its kernels:', error);
    }
  }

  /** Takes on the kernels that an earlier visit found fastest. */
  async #recall(engine: Engine): Promise<void> {
    if (!this.#tune || !tunes(engine)) return;
    try {
      const choices = await kept((engine.info() as Info).adapter);
      if (choices) await engine.set_tuning(choices);
      this.#tune = !choices;
    } catch {
      // Of another version; they are measured anew.
    }
  }

  /** What brings an engine to where the last picture has been run, and what weighs its branches. */
  #replay: Replay | undefined;
  #gains: Replay | undefined;

  readonly #handlers: { [C in Call]: Handler<C> } = {
    load: (args, report) => this.#load(args, report),
    move: async ({ backend }, report) => {
      if (!this.#file) throw notLoaded();
      return this.#start(this.#file, backend, this.#withHeads, report);
    },
    classify: async ({ pictures, crop, top }, _, next) => {
      const read = await Promise.all(pictures.map((picture) => pixels(picture).catch(failure)));
      const readable = read.filter((picture) => 'data' in picture);
      const answers = readable.length > 0 ? await this.#classify(readable, crop, top, next) : [];
      return read.map((picture) => ('data' in picture ? answers.shift()! : picture));
    },
    features: async ({ picture, crop }) => {
      await this.#classify([await pixels(picture)], crop, 0);
      return (await this.#onLast((engine) => engine.read(POOLED)) as Calls['read']['result']).data;
    },
    run: async ({ values }) => {
      const run = (engine: Engine) => engine.run_tensor(values);
      const result = (await this.#recovering(run, Math.max(1, values.length / PICTURE))) as Calls['run']['result'];
      this.#remember(run, values.byteLength);
      return result;
    },
    read: async ({ layer }) => (await this.#onLast((engine) => engine.read(layer))) as Calls['read']['result'],
    stats: async ({ layer, image, channel }) => ({ data: await this.#onLast((engine) => engine.stats(layer, image, channel)) }),
    draw: async ({ layer, image, channels, columns, scale, gap, colormap, range }) => {
      const ends = Float32Array.from(range);
      return this.#onLast(async (engine) => {
        const draw = (stay: boolean): Promise<Resident | Sheet> => {
          return engine.draw(layer, image, channels, columns, scale, gap, colormap, ends, stay);
        };
        const sheet = await draw(presents());
        return 'pixels' in sheet ? (present(sheet) ?? ((await draw(false)) as Sheet)) : sheet;
      });
    },
    explain: async ({ index }) => (await this.#onLast((engine) => engine.explain(index))) as Explanation,
    ablate: async ({ gains, top }) => {
      const [branches, weights] = [Object.keys(gains), Float32Array.from(Object.values(gains))];
      const run = (engine: Engine) => engine.ablate(branches, weights, top);
      const { top: best, heads, ms, before, untouched } = (await this.#onLast(run)) as Ablation;
      this.#gains = branches.length > 0 ? run : undefined;
      return { top: best, heads, ms, before, untouched };
    },
    profile: async ({ timed }) => this.#running().profile(timed) as StepTime[],
  };

  async #load(args: Calls['load']['args'], report: Report): Promise<Loaded> {
    const { model, backend, heads, ablation, simd, threads, wasmUrl } = args;
    const since = performance.now();
    const passed = () => performance.now() - since;
    this.#threads = this.#summon ? wanted(threads) : Math.min(wanted(threads), 1);
    this.#wasmUrl = wasmUrl;
    this.#imported = args.imported;
    this.#check = args.check;
    this.#f16 = args.f16;
    this.#ablation = ablation;
    this.#simd = simd;
    this.#tune = args.tune && 'indexedDB' in globalThis;
    // The module comes with the model, and the GPU gets ready meanwhile. Where that fails, starting says why.
    const chosen = this.#choose(backend);
    const warm = chosen.then((on) => {
      if (on === 'cpu') return this.#cpuModule().then(() => undefined);
      return this.#gpuModule().then(({ warm }) => warm(args.f16));
    });
    this.#warm = warm.catch(() => undefined);
    const arrival = new Arrival(this.#warm, heads, backend === 'auto');
    try {
      const bytes = await this.#bytes(model, report, arrival);
      this.#ms.download = passed();
      report({ phase: 'compile', loaded: 0, total: undefined });
      // Where the GPU's fails, the CPU's may do.
      await ((await chosen) === 'cpu' ? this.#cpuModule() : this.#gpuModule().catch(() => {}));
      this.#ms.compile = passed();
      const name = globalThis.File && model instanceof File ? model.name : 'a file';
      this.#arrived = (await arrival.end()) ? bytes : undefined;
      await this.#take(bytes, name, backend, heads, report);
    } finally {
      await arrival.end();
      void this.#spare()?.then((warm) => warm?.free());
    }
    this.#ms.ready = passed();
    return { info: this.#info(), layers: this.#running().layers() as Layer[] };
  }

  /** Which of the engines is to run: the one that is asked for, or the better one here. */
  async #choose(backend: string): Promise<'gpu' | 'cpu'> {
    this.#reason = undefined;
    const asked = ENGINE[backend] ?? backend;
    if (asked === 'cpu') return 'cpu';
    if (asked === 'gpu') {
      if (globalThis.navigator?.gpu) return 'gpu';
      throw new GoogLeNetError({ code: 'no-gpu', message: `WebGPU cannot be used: ${NO_WEBGPU}.` });
    }
    this.#reason = await refusal();
    return this.#reason === undefined ? 'gpu' : 'cpu';
  }

  /** The module for the CPU; fetched anew where that failed before. */
  #cpuModule(): Promise<CpuModule> {
    const wanted = { simd: this.#simd, threads: this.#threads, wasmUrl: this.#wasmUrl };
    this.#cpu ??= cpuModule(wanted, this.#summon);
    this.#cpu.catch(() => (this.#cpu = undefined));
    return this.#cpu;
  }

  /** The same for the GPU. */
  #gpuModule(): Promise<GpuModule> {
    this.#gpu ??= gpuModule(this.#wasmUrl);
    this.#gpu.catch(() => (this.#gpu = undefined));
    return this.#gpu;
  }

  /** The GPU that was opened while the model came, for whoever asks first. */
  #spare(): Promise<Warm | undefined> | undefined {
    return [this.#warm, (this.#warm = undefined)][0];
  }

  async #bytes(model: ModelPlace, report: Report, arrival: Arrival): Promise<Uint8Array> {
    if (model instanceof Uint8Array) return model;
    if (model instanceof Blob) return new Uint8Array(await model.arrayBuffer());
    return download(model.url, model.sha256, report, this.#ended.signal, (file) => arrival.came(file));
  }

  /** Starts with a model file, be it another framework's. */
  async #take(bytes: Uint8Array, name: string, backend: string, heads: boolean, report: Report): Promise<void> {
    // The header of one of ours, after 8 bytes of length, is JSON.
    if (bytes[8] !== '{'.charCodeAt(0)) bytes = await this.#convert(bytes, name);
    try {
      await this.#start(bytes, backend, heads, report);
    } catch (error) {
      if (!FOREIGN.includes(failure(error).code)) throw error;
      const converted = await this.#convert(bytes, name).catch(() => {
        throw error;
      });
      await this.#start(converted, backend, heads, report);
    }
  }

  /** Another framework's file as one of ours. The importers are large, and fetched when they are needed. */
  async #convert(bytes: Uint8Array, name: string): Promise<Uint8Array> {
    const [{ default: init, convert }, module] = await Promise.all([
      import('../wasm/importers.js'),
      compile(new URL('../wasm/importers_bg.wasm', import.meta.url), 'importers', this.#wasmUrl),
    ]);
    await init({ module_or_path: module });
    return convert(bytes, name, this.#imported);
  }

  /** Starts an engine; the one before it stays in use if that fails. */
  async #start(bytes: Uint8Array, backend: string, heads: boolean, report: Report): Promise<Info> {
    report({ phase: 'upload', loaded: 0, total: bytes.length });
    const next = await this.#started(bytes, backend, heads);
    await this.#recall(next);
    release(this.#engine);
    this.#engine = next;
    this.#failed = undefined;
    this.#patience = tunes(next) ? PATIENCE : SLOW;
    if (this.#file !== bytes) this.#replay = this.#gains = undefined;
    this.#file = bytes;
    this.#withHeads = heads;
    // Only now it is known that there is work for them.
    if (this.#threads > 1 && !isOnGpu(next)) await (await this.#cpuModule()).share(next, this.#threads);
    report({ phase: 'ready', loaded: bytes.length, total: bytes.length });
    return this.#info();
  }

  /** An engine on the backend that is asked for; with `auto` on the CPU where the GPU cannot be used. */
  async #started(bytes: Uint8Array, backend: string, heads: boolean): Promise<Engine> {
    const model = (labels?: string): ModelBytes => ({ bytes, heads, labels, ablation: this.#ablation });
    if ((await this.#choose(backend)) === 'gpu') {
      const auto = backend === 'auto';
      // A call that fails has used the spare GPU up all the same.
      const start = () =>
        this.#labelled(async (labels) => {
          const { load } = await this.#gpuModule();
          const warm = await this.#spare();
          const came = warm && bytes === this.#arrived ? { bytes: new Uint8Array() } : {};
          return load({ ...model(labels), ...came }, { auto, warm, check: this.#check, f16: this.#f16 });
        });
      try {
        return await start().catch((error: unknown) => {
          // The device may have been lost meanwhile; that another is lost too is no accident.
          if (failure(error).code !== 'gpu') throw error;
          return start();
        });
      } catch (error) {
        const { code, message } = failure(error);
        if (!auto || FINAL.includes(code)) throw error;
        this.#reason = message;
      }
    }
    const { load } = await this.#cpuModule();
    return this.#labelled((labels) => load(model(labels)));
  }

  /** Does without the names of ImageNet's classes, unless the file has none of its own. */
  async #labelled<T>(load: (labels?: string) => Promise<T>): Promise<T> {
    try {
      return await load();
    } catch (error) {
      const { code, detail } = failure(error);
      if (code !== 'metadata' || detail !== 'labels') throw error;
      const labels = await imagenet(this.#wasmUrl);
      return load(labels);
    }
  }

  #info(): Info {
    const info = this.#running().info() as Omit<Info, 'backend'> & { backend: 'gpu' | 'cpu' };
    const reason = info.backend === 'cpu' ? (this.#reason ?? info.reason) : info.reason;
    return { ...info, reason, backend: BACKEND[info.backend], files: [...files], ms: { ...this.#ms } };
  }

  #running(): Engine {
    if (!this.#engine) throw notLoaded();
    return this.#engine;
  }

  /** With `next`, other pictures may follow before these are answered. */
  async #classify(pictures: Pixels[], crop: string, top: number, next?: () => void): Promise<Answer[]> {
    const [only] = pictures;
    const rgba = pictures.length === 1 && only ? bytes(only) : joined(pictures.map(bytes));
    const sizes = Uint32Array.from(pictures.flatMap(({ width, height }) => [width, height]));
    const start = (engine: Engine) => engine.classify(rgba, sizes, crop, top) as Promise<[Promise<Answer[]>]>;
    const run = async (engine: Engine) => (await start(engine))[0];
    const engine = this.#running();
    if (next && this.#failed?.engine !== engine) {
      try {
        const [answers] = await this.#watched(start(engine), pictures.length);
        this.#remember(run, rgba.length);
        // Those before them may still be on the GPU.
        const answered = this.#watched(answers, pictures.length * ++this.#flights).finally(() => this.#flights--);
        const before = this.#flight;
        this.#flight = answered.catch(() => {});
        void before.then(next);
        return await answered;
      } catch (error) {
        if (failure(error).code !== 'gpu') throw error;
        this.#failed = { engine, error };
        // The calls that have come meanwhile are before it.
        next();
        const turn = this.#last.then(() => this.#classify(pictures, crop, top));
        this.#last = turn.catch(() => {});
        return turn;
      }
    }
    const answers = await this.#recovering(run, pictures.length);
    this.#remember(run, rgba.length);
    return answers;
  }

  /**
   * Runs something; where the GPU fails or does not come back, again on a new device, and where that fails, without
   * one. What builds on the last picture has it run again first.
   */
  async #recovering<T>(run: (engine: Engine) => Promise<T>, pictures: number, replay?: Replay): Promise<T> {
    const failed = this.#failed;
    try {
      if (failed?.engine === this.#running()) throw failed.error;
      return await this.#watched(run(this.#running()), pictures);
    } catch (error) {
      const { code, message } = failure(error);
      if (code !== 'gpu' || !this.#file) throw error;
      const again = async (backend: string) => {
        const info = await this.#start(this.#file!, backend, this.#withHeads, () => {});
        const engine = this.#running();
        if (replay || this.#gains) await this.#watched((replay ?? run)(engine), pictures);
        if (this.#gains) await this.#watched(this.#gains(engine), pictures);
        const result = await this.#watched(run(engine), pictures);
        this.#post({ event: 'devicelost', detail: { message, info } });
        return result;
      };
      return again('webgpu').catch(() => again('wasm'));
    }
  }

  /** Keeps how the last picture was run, where a GPU may be lost and the picture is not huge. */
  #remember(run: Replay, bytes: number): void {
    this.#replay = this.#info().backend === 'webgpu' && bytes <= KEPT ? run : undefined;
  }

  /** The same of what builds on the last picture. */
  #onLast<T>(what: (engine: Engine) => Promise<T>): Promise<T> {
    return this.#recovering(what, 1, this.#replay);
  }

  /** Fails where the GPU does not come back. */
  async #watched<T>(work: Promise<T>, pictures: number): Promise<T> {
    if (this.#info().backend !== 'webgpu') return work;
    const patience = this.#patience * pictures;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `The GPU did not answer within ${patience / 1000} s.`;
      timer = setTimeout(() => reject(new GoogLeNetError({ code: 'gpu', message })), patience);
    });
    // What comes of it later is of no interest.
    work.catch(() => {});
    return Promise.race([work, late]).finally(() => clearTimeout(timer));
  }
}

/** Frees an engine, unless a run on it never ended: that one holds it for good. */
function release(engine: Engine | undefined): void {
  try {
    engine?.free();
  } catch (error) {
    console.warn('GoogLeNet could not free an engine:', error);
  }
}

/** Whether measuring an engine's kernels pays: it is on a GPU, and not on a CPU that plays one. */
function tunes(engine: Engine): engine is GpuEngine {
  return isOnGpu(engine) && engine.can_tune();
}

/** Which of the modules an engine is of. */
function isOnGpu(engine: Engine): engine is GpuEngine {
  return 'tune' in engine;
}

/** What of a result need not be copied. */
function movable(result: unknown): Transferable[] {
  if (globalThis.ImageBitmap && result instanceof ImageBitmap) return [result];
  const { data } = (result ?? {}) as { data?: unknown };
  return ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [];
}

function bytes({ data }: Pixels): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function notLoaded(): GoogLeNetError {
  return bad('No model is loaded yet.');
}

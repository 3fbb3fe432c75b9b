// The network of a session: its model file, and the engine that runs it.

import { toBackend, type Choice, type EngineKind } from '../api/backend.js';
import { argumentError, failure } from '../api/errors.js';
import type { Info, Layer, Progress } from '../api/types.js';
import type { Calls, Loaded, ModelLocation } from '../worker/protocol.js';
import { chooseBackend, type Decision } from './adapter.js';
import { download } from './download.js';
import { EngineLoader, FOREIGN, type Opened } from './engine-loader.js';
import { isTunable, release, type Engine, type StartHelpers } from './engines.js';
import { fetchedFiles } from './files.js';
import { GpuStream } from './stream-to-gpu.js';

type Report = (progress: Progress) => void;

/** What a network needs of its session. */
export interface NetworkOptions {
  /** Starts helper workers; undefined where that is not possible. */
  startHelpers: StartHelpers | undefined;
  /** Aborts a download. */
  signal: AbortSignal;
  /** Is called with each engine before it comes into use. */
  beforeUse: (engine: Engine) => Promise<void>;
}

/** Loads a model, and keeps the one engine in use. */
export class Network {
  readonly #options: NetworkOptions;
  #loader: EngineLoader | undefined;
  /** The model file, which is kept so that another backend needs no second download. */
  #file: Uint8Array | undefined;
  #opened: Opened | undefined;
  #isOnHardware = false;
  #ms: Info['ms'] = { download: 0, compile: 0, ready: 0 };

  /** Creates a network without a model; {@link Network.load} loads one. */
  constructor(options: NetworkOptions) {
    this.#options = options;
  }

  /** The engine in use. Throws an `argument` error before a model is loaded. */
  get engine(): Engine {
    if (!this.#opened) throw notLoaded();
    return this.#opened.engine;
  }

  /** Whether an engine is in use. */
  get isLoaded(): boolean {
    return this.#opened !== undefined;
  }

  /** Whether the engine is on a GPU that is no software adapter. */
  get isOnHardware(): boolean {
    return this.#isOnHardware;
  }

  /** The properties of the network, with the package's names of the backends. */
  get info(): Info {
    const info = this.engine.info() as Omit<Info, 'backend'> & { backend: EngineKind };
    const reason = info.backend === 'cpu' ? (this.#opened?.reason ?? info.reason) : info.reason;
    return { ...info, reason, backend: toBackend(info.backend), files: [...fetchedFiles], ms: { ...this.#ms } };
  }

  /** Loads a model. The module is fetched and the GPU is opened while the model is downloaded. */
  async load({ model, backend, settings }: Calls['load']['args'], report: Report): Promise<Loaded> {
    const start = performance.now();
    const elapsed = () => performance.now() - start;
    const loader = (this.#loader = new EngineLoader(settings, this.#options.startHelpers));
    const deciding = chooseBackend(backend);
    const stream = new GpuStream(loader.prepare(deciding), { heads: settings.heads, auto: backend === 'auto' });
    try {
      const bytes = await this.#read(model, report, stream);
      this.#ms.download = elapsed();
      report({ phase: 'compile', loaded: 0, total: undefined });
      const decision = await deciding;
      await loader.compiled(decision);
      this.#ms.compile = elapsed();
      const name = globalThis.File && model instanceof File ? model.name : 'a file';
      loader.setUploaded((await stream.end()) ? bytes : undefined);
      await this.#startAny(bytes, { name, decision, report });
    } finally {
      await stream.end();
      loader.freePrepared();
    }
    this.#ms.ready = elapsed();
    return { info: this.info, layers: this.engine.layers() as Layer[] };
  }

  /** Starts a new engine on a backend. The engine before it stays in use if that fails. */
  async restart(backend: Choice, report: Report = () => {}): Promise<Info> {
    if (!this.#file) throw notLoaded();
    return this.#start(this.#file, await chooseBackend(backend), report);
  }

  /** Frees the engine and the model file. */
  free(): void {
    release(this.#opened?.engine);
    this.#opened = this.#file = undefined;
  }

  /** Reads a model's bytes. What is downloaded is also uploaded to the GPU. */
  async #read(model: ModelLocation, report: Report, stream: GpuStream): Promise<Uint8Array> {
    if (model instanceof Uint8Array) return model;
    if (model instanceof Blob) return new Uint8Array(await model.arrayBuffer());
    return download({ ...model, report, signal: this.#options.signal, onData: (file) => stream.update(file) });
  }

  /** Starts an engine with a model file, which may be another framework's. */
  async #startAny(
    bytes: Uint8Array,
    { name, decision, report }: { name: string; decision: Decision; report: Report },
  ): Promise<void> {
    const convert = () => this.#loader!.convert(bytes, name);
    // A safetensors file begins with 8 bytes of length, which JSON follows.
    const file = bytes[8] === '{'.charCodeAt(0) ? bytes : await convert();
    try {
      await this.#start(file, decision, report);
    } catch (error) {
      if (file !== bytes || !FOREIGN.includes(failure(error).code)) throw error;
      const converted = await convert().catch(() => {
        throw error;
      });
      await this.#start(converted, decision, report);
    }
  }

  /** Starts an engine, which replaces the one in use. */
  async #start(bytes: Uint8Array, decision: Decision, report: Report): Promise<Info> {
    report({ phase: 'upload', loaded: 0, total: bytes.length });
    const opened = await this.#loader!.open(bytes, decision);
    await this.#options.beforeUse(opened.engine);
    release(this.#opened?.engine);
    this.#opened = opened;
    this.#isOnHardware = isTunable(opened.engine);
    this.#file = bytes;
    // Helper workers are started only now, since only now it is known that there is work for them.
    await this.#loader!.share(opened.engine);
    report({ phase: 'ready', loaded: bytes.length, total: bytes.length });
    return this.info;
  }
}

function notLoaded(): Error {
  return argumentError('No model is loaded yet.');
}

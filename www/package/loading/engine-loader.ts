// Opens engines: fetches the module of the chosen backend, and loads a model file into it.

import { failure } from '../api/errors.js';
import { withRetries } from '../recovery/retry.js';
import type { Settings } from '../worker/protocol.js';
import type { Decision } from './adapter.js';
import { fetchCpuModule, fetchGpuModule, isOnGpu, threadCount } from './engines.js';
import type { CpuModule, Engine, GpuModule, ModelFile, PreparedGpu, StartHelpers } from './engines.js';
import { fetchImagenetLabels } from './files.js';
import { convertModel } from './importers.js';

/** The error codes of a safetensors file that may be another framework's. */
export const FOREIGN = ['metadata', 'missing-tensor', 'extra-tensor', 'tensor-type'];

/** The error codes after which `auto` does not try the CPU: those about the file, and bugs of the engine. */
const FINAL = ['format', ...FOREIGN, 'tensor-shape', 'not-finite', 'shape', 'import', 'internal'];

/** An engine with a loaded model. */
export interface Opened {
  engine: Engine;
  /** Why `auto` has chosen the CPU. */
  reason: string | undefined;
}

/** Fetches the modules that a session needs, and opens engines with them. */
export class EngineLoader {
  readonly #settings: Settings;
  readonly #startHelpers: StartHelpers | undefined;
  readonly #threads: number;
  /** The modules, once one was needed. */
  #cpu: Promise<CpuModule> | undefined;
  #gpu: Promise<GpuModule> | undefined;
  /** A GPU that was opened while the model was downloaded, for the first engine that needs one. */
  #prepared: Promise<PreparedGpu | undefined> | undefined;
  /** The model file that was uploaded to the prepared GPU as a whole. */
  #uploaded: Uint8Array | undefined;

  /** Without `startHelpers` no helper workers can be started, and the engine has one thread. */
  constructor(settings: Settings, startHelpers: StartHelpers | undefined) {
    this.#settings = settings;
    this.#startHelpers = startHelpers;
    const threads = threadCount(settings.threads);
    this.#threads = startHelpers ? threads : 1;
  }

  /**
   * Begins to fetch the module of the chosen backend and to open the GPU. Resolves to the GPU, or to undefined where
   * there is none or it fails; opening an engine then reports why.
   */
  prepare(decision: Promise<Decision>): Promise<PreparedGpu | undefined> {
    const prepared = decision.then(async ({ backend }) => {
      if (backend === 'gpu') return (await this.#gpuModule()).prepare(this.#settings.f16);
      await this.#cpuModule();
      return undefined;
    });
    this.#prepared = prepared.catch(() => undefined);
    return this.#prepared;
  }

  /** Resolves once the module of the chosen backend is compiled. A failure of the GPU's is reported by opening it. */
  async compiled({ backend }: Decision): Promise<void> {
    await (backend === 'cpu' ? this.#cpuModule() : this.#gpuModule().catch(() => {}));
  }

  /** Converts another framework's model file, whose name is given, to a safetensors file. */
  convert(bytes: Uint8Array, name: string): Promise<Uint8Array> {
    const { imported, wasmUrl } = this.#settings;
    return convertModel(bytes, { name, imported, wasmUrl });
  }

  /** Takes note that a model file was uploaded to the prepared GPU as a whole. */
  setUploaded(bytes: Uint8Array | undefined): void {
    this.#uploaded = bytes;
  }

  /** Frees the prepared GPU, if no engine uses it. */
  freePrepared(): void {
    void this.#takePrepared()?.then((gpu) => gpu?.free());
  }

  /** Opens an engine on the chosen backend; where `auto` has chosen a GPU that cannot be used, on the CPU. */
  async open(bytes: Uint8Array, { backend, auto, reason }: Decision): Promise<Opened> {
    if (backend === 'cpu') return { engine: await this.#openOnCpu(bytes), reason };
    const openOnGpu = async () => ({ engine: await this.#openOnGpu(bytes, auto), reason: undefined });
    return withRetries<Opened>({
      run: openOnGpu,
      runOnNewDevice: openOnGpu,
      runOnCpu: async ({ message }) => ({ engine: await this.#openOnCpu(bytes), reason: message }),
      mayUseCpu: ({ code }) => auto && !FINAL.includes(code),
    });
  }

  /** Shares the work of an engine on the CPU among its threads. */
  async share(engine: Engine): Promise<void> {
    if (this.#threads > 1 && !isOnGpu(engine)) await (await this.#cpuModule()).share(engine, this.#threads);
  }

  #openOnGpu(bytes: Uint8Array, auto: boolean): Promise<Engine> {
    return this.#withLabels(async (labels) => {
      const { load } = await this.#gpuModule();
      const { check, f16 } = this.#settings;
      // Even a call that fails consumes the prepared GPU.
      const prepared = await this.#takePrepared();
      const rest = prepared && bytes === this.#uploaded ? new Uint8Array() : bytes;
      return load(this.#modelFile(rest, labels), { auto, prepared, check, f16 });
    });
  }

  async #openOnCpu(bytes: Uint8Array): Promise<Engine> {
    const { load } = await this.#cpuModule();
    return this.#withLabels((labels) => load(this.#modelFile(bytes, labels)));
  }

  #modelFile(bytes: Uint8Array, labels: string | undefined): ModelFile {
    const { heads, ablation } = this.#settings;
    return { bytes, heads, labels, ablation };
  }

  /** Loads a model, with the names of ImageNet's classes only where its file has none; they are fetched then. */
  async #withLabels<T>(load: (labels?: string) => Promise<T>): Promise<T> {
    try {
      return await load();
    } catch (error) {
      const { code, detail } = failure(error);
      if (code !== 'metadata' || detail !== 'labels') throw error;
      return load(await fetchImagenetLabels(this.#settings.wasmUrl));
    }
  }

  /** Returns the module for the CPU. It is fetched again where that has failed. */
  #cpuModule(): Promise<CpuModule> {
    const { simd, wasmUrl } = this.#settings;
    this.#cpu ??= fetchCpuModule({ simd, threads: this.#threads, wasmUrl }, this.#startHelpers);
    this.#cpu.catch(() => (this.#cpu = undefined));
    return this.#cpu;
  }

  /** Returns the module for the GPU. It is fetched again where that has failed. */
  #gpuModule(): Promise<GpuModule> {
    this.#gpu ??= fetchGpuModule(this.#settings.wasmUrl);
    this.#gpu.catch(() => (this.#gpu = undefined));
    return this.#gpu;
  }

  /** Returns the prepared GPU to the first caller. */
  #takePrepared(): Promise<PreparedGpu | undefined> | undefined {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    return prepared;
  }
}

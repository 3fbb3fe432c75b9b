// The engine's WebAssembly modules. There are five builds: one for the GPU, and four for the CPU, with and without
// relaxed SIMD and with and without threads. This file fetches the build that is needed, and no other.

import { GoogLeNetError, argumentError } from '../api/errors.js';
import type { Simd } from '../api/types.js';
import type { Engine as CpuEngine } from '../wasm/googlenet_cpu.js';
import type { Engine as GpuEngine, Warm as PreparedGpu } from '../wasm/googlenet_gpu.js';
import type { SharedModule } from '../worker/protocol.js';
import { importThreaded } from '../worker/threads.js';
import { compile } from './files.js';
import { hasRelaxedSimd, hasSimd, hasThreads, spillsRegisterTiles } from './features.js';

export type { CpuEngine, GpuEngine, PreparedGpu };

/** An engine with a loaded model, from either module. */
export type Engine = CpuEngine | GpuEngine;

/** Starts helper workers. Resolves once each has arrived or failed. */
export type StartHelpers = (shared: SharedModule, count: number) => Promise<void>;

/** A model file and how to load it. */
export interface ModelFile {
  bytes: Uint8Array;
  /** Whether to load the auxiliary heads. */
  heads: boolean;
  /** The names of the classes, one on a line, for a file that has none. */
  labels: string | undefined;
  /** Whether branches are going to be scaled. */
  ablation: boolean;
}

/** How to use a GPU. */
export interface GpuOptions {
  /** Whether a software adapter is refused. */
  auto: boolean;
  /** A GPU that was opened before; undefined to open one. */
  prepared: PreparedGpu | undefined;
  /** Whether the GPU's results are checked first; undefined for the engine's default. */
  check: boolean | undefined;
  f16: boolean;
}

/** The module for the CPU. */
export interface CpuModule {
  load(model: ModelFile): Promise<CpuEngine>;
  /** Shares an engine's work among this many threads, or as many as could be started. */
  share(engine: CpuEngine, threads: number): Promise<void>;
}

/** The module for the GPU. */
export interface GpuModule {
  load(model: ModelFile, options: GpuOptions): Promise<GpuEngine>;
  /** Opens the GPU and compiles its shaders, with `f16` for half precision. */
  prepare(f16: boolean): Promise<PreparedGpu>;
}

/** The properties of the CPU module to fetch. */
export interface CpuOptions {
  simd: Simd;
  threads: number;
  /** The folder of the modules; undefined where they are where the bundler has put them. */
  wasmUrl: string | undefined;
}

/** The greatest default number of threads: the engine's steps are too short to be shared among more. */
const MAX_DEFAULT_THREADS = 8;

/** Returns the number of threads to use. Default: one for each core, at most eight. */
export function threadCount(threads: number | undefined): number {
  if (threads === undefined) return Math.min(globalThis.navigator?.hardwareConcurrency || 1, MAX_DEFAULT_THREADS);
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw argumentError(`There cannot be ${threads} threads.`);
}

/** Says whether an engine runs on a GPU. */
export function isOnGpu(engine: Engine): engine is GpuEngine {
  return 'tune' in engine;
}

/** Says whether an engine's kernels can be tuned: it runs on a hardware GPU. */
export function isTunable(engine: Engine): engine is GpuEngine {
  return isOnGpu(engine) && engine.can_tune();
}

/** Frees an engine. One with a run that never ended stays, since that run still holds it. */
export function release(engine: Engine | undefined): void {
  try {
    engine?.free();
  } catch (error) {
    console.warn('GoogLeNet could not free an engine:', error);
  }
}

/** Fetches the module for the GPU. */
export async function fetchGpuModule(wasmUrl: string | undefined): Promise<GpuModule> {
  const url = new URL('../wasm/googlenet_gpu_bg.wasm', import.meta.url);
  const [{ default: init, Engine, Warm }, module] = await Promise.all([
    import('../wasm/googlenet_gpu.js'),
    compile(url, 'googlenet_gpu', wasmUrl),
  ]);
  await init({ module_or_path: module });
  return {
    load: ({ bytes, heads, labels, ablation }, { auto, prepared, check, f16 }) =>
      Engine.on_gpu(bytes, auto, heads, labels, ablation, prepared, check, f16),
    prepare: (f16) => Warm.open(f16),
  };
}

/**
 * Fetches the module for the CPU that is fastest in this browser. Without `startHelpers` no helper workers can be
 * started, and the module is one without threads.
 */
export async function fetchCpuModule({ simd, threads, wasmUrl }: CpuOptions, startHelpers: StartHelpers | undefined): Promise<CpuModule> {
  const relaxed = usesRelaxedSimd(simd);
  if (threads > 1 && startHelpers && hasThreads()) {
    try {
      return await fetchThreadedModule(relaxed, wasmUrl, startHelpers);
    } catch (error) {
      // Usually the browser has no room for the address space of a shared memory.
      console.warn('GoogLeNet continues with one thread:', error);
    }
  }
  const url = relaxed
    ? new URL('../wasm/googlenet_cpu_relaxed_bg.wasm', import.meta.url)
    : new URL('../wasm/googlenet_cpu_bg.wasm', import.meta.url);
  const [{ default: init, Engine }, module] = await Promise.all([
    relaxed ? import('../wasm/googlenet_cpu_relaxed.js') : import('../wasm/googlenet_cpu.js'),
    compile(url, `googlenet_cpu${relaxed ? '_relaxed' : ''}`, wasmUrl),
  ]);
  await init({ module_or_path: module });
  return { load: (model) => loadOnCpu(Engine, model), share: async () => {} };
}

/** Fetches the module for the CPU whose memory workers can share. */
async function fetchThreadedModule(relaxed: boolean, wasmUrl: string | undefined, startHelpers: StartHelpers): Promise<CpuModule> {
  const url = relaxed
    ? new URL('../wasm/googlenet_cpu_relaxed_threads_bg.wasm', import.meta.url)
    : new URL('../wasm/googlenet_cpu_threads_bg.wasm', import.meta.url);
  const [{ default: init, Engine }, module] = await Promise.all([
    importThreaded(relaxed),
    compile(url, `googlenet_cpu${relaxed ? '_relaxed' : ''}_threads`, wasmUrl),
  ]);
  const { memory } = await init({ module_or_path: module });
  return {
    load: (model) => loadOnCpu(Engine, model),
    share: async (engine, threads) => {
      await startHelpers({ relaxed, module, memory }, threads - 1);
      engine.set_threads(threads);
    },
  };
}

function loadOnCpu(engine: typeof CpuEngine, { bytes, heads, labels, ablation }: ModelFile): Promise<CpuEngine> {
  return engine.on_cpu(bytes, heads, labels, ablation);
}

/** Decides whether to use relaxed SIMD. Throws a `no-simd` error where the browser lacks what is needed. */
function usesRelaxedSimd(simd: Simd): boolean {
  if (!hasSimd()) {
    const message = 'This browser has no WebAssembly SIMD, which the engine needs. Browsers since 2023 have it.';
    throw new GoogLeNetError({ code: 'no-simd', message });
  }
  if (simd === 'relaxed' && !hasRelaxedSimd()) {
    const message = 'This browser has no relaxed SIMD, which was asked for. Ask for "auto" or "plain".';
    throw new GoogLeNetError({ code: 'no-simd', detail: 'relaxed', message });
  }
  return simd === 'relaxed' || (simd !== 'plain' && hasRelaxedSimd() && !spillsRegisterTiles());
}

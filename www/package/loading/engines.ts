// The engine is built five times: once for the GPU, and for the CPU with and without relaxed SIMD, with and without
// threads. This fetches the build that is asked for, and no other.

import { GoogLeNetError, bad } from '../api/errors.js';
import { hasRelaxedSimd, hasSimd, hasThreads, spillsTiles } from './features.js';
import { threaded } from '../worker/threads.js';
import { readFile } from './node.js';
import type { Shared } from '../worker/protocol.js';
import type { Simd } from '../api/types.js';
import type { Engine as CpuEngine } from '../wasm/googlenet_cpu.js';
import type { Engine as GpuEngine, Warm } from '../wasm/googlenet_gpu.js';

export type { CpuEngine, GpuEngine, Warm };

/** A model on the engine of either module. */
export type Engine = CpuEngine | GpuEngine;

/** Has helper workers started. Resolves when all have arrived, or those that will. */
export type Summon = (shared: Shared, count: number) => Promise<void>;

/** A model's file, and what of it to load. */
export interface ModelBytes {
  bytes: Uint8Array;
  heads: boolean;
  /** The names of its classes where the file has none, one a line. */
  labels: string | undefined;
  /** Whether branches will be weighed. */
  ablation: boolean;
}

/** How to use a GPU. */
export interface GpuOptions {
  /** Whether a CPU that plays a GPU is refused. */
  auto: boolean;
  /** A GPU that was opened before. */
  warm: Warm | undefined;
  check: boolean | undefined;
  f16: boolean;
}

/** The module for the CPU. */
export interface CpuModule {
  load(model: ModelBytes): Promise<CpuEngine>;
  /** Shares an engine's work among this many threads, or as many as can be had. */
  share(engine: CpuEngine, threads: number): Promise<void>;
}

/** The module for the GPU. */
export interface GpuModule {
  load(model: ModelBytes, options: GpuOptions): Promise<GpuEngine>;
  /** Opens the GPU and compiles its shaders. */
  warm: typeof Warm.open;
}

export interface Wanted {
  simd: Simd;
  threads: number;
  /** The folder of the modules, where they do not lie beside this script. */
  wasmUrl: string | undefined;
}

/** The greatest number of threads by default: the engine's steps are too short to be shared among more. */
const MOST_THREADS = 8;

/** As many threads as are asked for; by default one a core, at most eight. */
export function wanted(threads: number | undefined): number {
  if (threads === undefined) return Math.min(globalThis.navigator?.hardwareConcurrency || 1, MOST_THREADS);
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw bad(`There cannot be ${threads} threads.`);
}

/** The engine for the GPU. */
export async function gpuModule(wasmUrl: string | undefined): Promise<GpuModule> {
  const url = new URL('../wasm/googlenet_gpu_bg.wasm', import.meta.url);
  const [{ default: init, Engine, Warm }, module] = await Promise.all([
    import('../wasm/googlenet_gpu.js'),
    compile(url, 'googlenet_gpu', wasmUrl),
  ]);
  await init({ module_or_path: module });
  return {
    load: ({ bytes, heads, labels, ablation }, { auto, warm, check, f16 }) =>
      Engine.on_gpu(bytes, auto, heads, labels, ablation, warm, check, f16),
    warm: Warm.open,
  };
}

/** The engine for the CPU that suits this browser best; on one thread where nobody can be summoned. */
export async function cpuModule({ simd, threads, wasmUrl }: Wanted, summon: Summon | undefined): Promise<CpuModule> {
  const relaxed = isRelaxed(simd);
  if (threads > 1 && summon && hasThreads()) {
    try {
      return await shared(relaxed, wasmUrl, summon);
    } catch (error) {
      // Above all where the browser has no room for a memory that can be shared.
      console.warn('GoogLeNet goes on with one thread:', error);
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
  return { load: (model) => load(Engine, model), share: async () => {} };
}

function load(of: typeof CpuEngine, { bytes, heads, labels, ablation }: ModelBytes): Promise<CpuEngine> {
  return of.on_cpu(bytes, heads, labels, ablation);
}

function isRelaxed(simd: Simd): boolean {
  if (!hasSimd()) {
    const message = 'This browser has no WebAssembly SIMD, which the engine needs. Browsers since 2023 have it.';
    throw new GoogLeNetError({ code: 'no-simd', message });
  }
  if (simd === 'relaxed' && !hasRelaxedSimd()) {
    const message = 'This browser has no relaxed SIMD, which was asked for. Ask for "auto" or "plain".';
    throw new GoogLeNetError({ code: 'no-simd', detail: 'relaxed', message });
  }
  return simd === 'relaxed' || (simd !== 'plain' && hasRelaxedSimd() && !spillsTiles());
}

/** The engine on a memory that workers can share. */
async function shared(relaxed: boolean, wasmUrl: string | undefined, summon: Summon): Promise<CpuModule> {
  const url = relaxed
    ? new URL('../wasm/googlenet_cpu_relaxed_threads_bg.wasm', import.meta.url)
    : new URL('../wasm/googlenet_cpu_threads_bg.wasm', import.meta.url);
  const [{ default: init, Engine }, module] = await Promise.all([
    threaded(relaxed),
    compile(url, `googlenet_cpu${relaxed ? '_relaxed' : ''}_threads`, wasmUrl),
  ]);
  const { memory } = await init({ module_or_path: module });
  return {
    load: (model) => load(Engine, model),
    share: async (engine, threads) => {
      await summon({ relaxed, module, memory }, threads - 1);
      engine.set_threads(threads);
    },
  };
}

/** A module from where bundlers have put it, or from the folder that an application names. */
export function compile(bundled: URL, name: string, wasmUrl: string | undefined): Promise<WebAssembly.Module> {
  return part(bundled, `${name}_bg.wasm`, wasmUrl, async (response) => {
    // Not every server knows the type.
    const streams = response.headers.get('content-type')?.startsWith('application/wasm');
    return streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
  });
}

/** The names of ImageNet's classes, one a line. */
export function imagenet(wasmUrl: string | undefined): Promise<string> {
  const url = new URL('../wasm/imagenet_labels.txt', import.meta.url);
  return part(url, 'imagenet_labels.txt', wasmUrl, (response) => response.text());
}

/** Addresses of the engine's files that were fetched. */
export const files: string[] = [];

/** What a file of the engine holds. */
async function part<T>(
  bundled: URL,
  name: string,
  wasmUrl: string | undefined,
  read: (response: Response) => Promise<T>,
): Promise<T> {
  const url = wasmUrl === undefined ? bundled : new URL(name, wasmUrl);
  try {
    const response = url.protocol === 'file:' ? new Response(await readFile(url)) : await fetch(url);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const held = await read(response);
    if (!files.includes(url.href)) files.push(url.href);
    return held;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `The engine could not be loaded from ${url}: ${why}. wasmUrl says where its files are.`;
    throw new GoogLeNetError({ code: 'download', detail: url.href, message }, { cause });
  }
}

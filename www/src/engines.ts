// The engine is built four times: with and without relaxed SIMD, with and without threads. This chooses.

import { GoogLeNetError, bad } from './errors.js';
import { hasRelaxedSimd, hasSimd, hasThreads, spillsTiles } from './features.js';
import { threaded } from './helpers.js';
import { readFile } from './node.js';
import type { Shared } from './protocol.js';
import type { Simd } from './types.js';
import type { Engine, Warm } from './wasm/googlenet.js';

export type { Engine, Warm };

/** Has helper workers started. Resolves when all have arrived, or those that will. */
export type Summon = (shared: Shared, count: number) => Promise<void>;

/** What a module of the engine is to the session. */
export interface Engines {
  load: typeof Engine.load;
  /** Opens the GPU and compiles its shaders. */
  warm: typeof Warm.open;
  /** Shares an engine's work among this many threads, or as many as can be had. */
  share(engine: Engine, threads: number): Promise<void>;
}

export interface Wanted {
  simd: Simd;
  threads: number;
  /** The folder of the modules, where they do not lie beside this script. */
  wasmUrl: string | undefined;
}

/** More threads than this are not taken unasked: the engine's steps are too short to be shared among more. */
const UNASKED = 8;

/** As many threads as are asked for; unasked one a core, at most eight. */
export function wanted(threads: number | undefined): number {
  if (threads === undefined) return Math.min(globalThis.navigator?.hardwareConcurrency || 1, UNASKED);
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw bad(`There cannot be ${threads} threads.`);
}

/** The engine that suits this browser best; on one thread where nobody can be summoned. */
export async function engines({ simd, threads, wasmUrl }: Wanted, summon: Summon | undefined): Promise<Engines> {
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
    ? new URL('./wasm/googlenet_relaxed_bg.wasm', import.meta.url)
    : new URL('./wasm/googlenet_bg.wasm', import.meta.url);
  const [{ default: init, Engine, Warm }, module] = await Promise.all([
    relaxed ? import('./wasm/googlenet_relaxed.js') : import('./wasm/googlenet.js'),
    compile(url, `googlenet${relaxed ? '_relaxed' : ''}`, wasmUrl),
  ]);
  await init({ module_or_path: module });
  return { load: Engine.load, warm: Warm.open, share: async () => {} };
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
async function shared(relaxed: boolean, wasmUrl: string | undefined, summon: Summon): Promise<Engines> {
  const url = relaxed
    ? new URL('./wasm/googlenet_relaxed_threads_bg.wasm', import.meta.url)
    : new URL('./wasm/googlenet_threads_bg.wasm', import.meta.url);
  const [{ default: init, Engine, Warm }, module] = await Promise.all([
    threaded(relaxed),
    compile(url, `googlenet${relaxed ? '_relaxed' : ''}_threads`, wasmUrl),
  ]);
  const { memory } = await init({ module_or_path: module });
  return {
    load: Engine.load,
    warm: Warm.open,
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
  const url = new URL('./wasm/imagenet_labels.txt', import.meta.url);
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

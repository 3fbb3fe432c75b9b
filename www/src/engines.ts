// The engine is built four times: with and without relaxed SIMD, with and without threads. This chooses.

import { GoogLeNetError } from './errors';
import { hasRelaxedSimd, hasSimd, hasThreads } from './features';
import { summon, threaded } from './helpers';
import type { Backend, Simd } from './protocol';
import type { Engine } from './wasm/googlenet';

export type { Engine };

/** What a module of the engine is to the worker. */
export interface Engines {
  load(model: Uint8Array, backend: Backend, heads: boolean): Promise<Engine>;
  /** Shares an engine's work among this many threads, or as many as can be had. */
  share(engine: Engine, threads: number): Promise<void>;
}

/** More threads than this are not taken unasked: the engine's steps are too short to be shared among more. */
const UNASKED = 8;

/** As many threads as are asked for; unasked one a core, at most eight. */
export function wanted(threads: number | undefined): number {
  if (threads === undefined) return Math.min(navigator.hardwareConcurrency || 1, UNASKED);
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw new GoogLeNetError({ code: 'argument', detail: undefined, message: `There cannot be ${threads} threads.` });
}

/** The engine that suits this browser best. */
export async function engines(simd: Simd, threads: number): Promise<Engines> {
  const relaxed = isRelaxed(simd);
  if (threads > 1 && hasThreads()) {
    try {
      return await shared(relaxed);
    } catch (error) {
      // Above all where the browser has no room for a memory that can be shared.
      console.warn('GoogLeNet goes on with one thread:', error);
    }
  }
  const { default: init, Engine } = await (relaxed ? import('./wasm/googlenet_relaxed') : import('./wasm/googlenet'));
  await init();
  return { load: (model, backend, heads) => Engine.load(model, backend, heads), share: async () => {} };
}

function isRelaxed(simd: Simd): boolean {
  if (!hasSimd()) {
    const message = 'This browser has no WebAssembly SIMD, which the engine needs. Browsers since 2023 have it.';
    throw new GoogLeNetError({ code: 'no-simd', detail: undefined, message });
  }
  if (simd === 'relaxed' && !hasRelaxedSimd()) {
    const message = 'This browser has no relaxed SIMD, which was asked for. Ask for "auto" or "plain".';
    throw new GoogLeNetError({ code: 'no-simd', detail: 'relaxed', message });
  }
  return simd !== 'plain' && hasRelaxedSimd();
}

/** The engine on a memory that workers can share. */
async function shared(relaxed: boolean): Promise<Engines> {
  const [{ default: init, Engine }, module] = await Promise.all([threaded(relaxed), compile(relaxed)]);
  const { memory } = await init({ module_or_path: module });
  return {
    load: (model, backend, heads) => Engine.load(model, backend, heads),
    share: async (engine, threads) => {
      await summon({ relaxed, module, memory }, threads - 1);
      engine.set_threads(threads);
    },
  };
}

function compile(relaxed: boolean): Promise<WebAssembly.Module> {
  const url = relaxed
    ? new URL('./wasm/googlenet_relaxed_threads_bg.wasm', import.meta.url)
    : new URL('./wasm/googlenet_threads_bg.wasm', import.meta.url);
  return WebAssembly.compileStreaming(fetch(url));
}

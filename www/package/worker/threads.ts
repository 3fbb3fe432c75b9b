// Workers that help the engine's: they run the same module on the same memory, and end with the engine.
// The page starts them, as a worker that starts workers hangs in Firefox now and then (seen in version 153,
// without any WebAssembly, in about one of ten times).

import type { Message, Reply, Shared } from './protocol.js';

/** A helper's stack: half of what the engine's own has. A multiple of 64 KiB. */
const STACK = 512 << 10;

/** Milliseconds after which the engine starts without those that have not arrived. */
const PATIENCE = 10_000;

/** The bindings of a module with threads. */
export function threaded(relaxed: boolean): Promise<typeof import('../wasm/googlenet_cpu_threads.js')> {
  return relaxed ? import('../wasm/googlenet_cpu_relaxed_threads.js') : import('../wasm/googlenet_cpu_threads.js');
}

/** Has the page start helpers. Resolves when all have arrived, or those that will. */
export function summon(shared: Shared, count: number): Promise<void> {
  return new Promise((resolve) => {
    const listen = ({ data }: MessageEvent<Message>) => {
      if ('arrived' in data) done();
    };
    const done = () => {
      clearTimeout(late);
      self.removeEventListener('message', listen);
      resolve();
    };
    const late = setTimeout(done, PATIENCE);
    self.addEventListener('message', listen);
    self.postMessage({ summon: count, shared } satisfies Reply);
  });
}

/** What a helper does with its life. */
export async function assist({ relaxed, module, memory }: Shared): Promise<void> {
  const { default: init, Helper } = await threaded(relaxed);
  const exports = await init({ module_or_path: module, memory, thread_stack_size: STACK });
  const helper = Helper.arrive();
  self.postMessage('arrived');
  try {
    helper.work();
  } catch (error) {
    helper.fail();
    throw error;
  }
  helper.free();
  exports.__wbindgen_thread_destroy();
  self.close();
}

// Helper workers, the threads of the wasm backend: they run the engine's module on the engine's memory, and end with
// the engine. The page starts them, since a worker that starts workers sometimes hangs in Firefox (seen in version 153,
// without any WebAssembly, in about one of ten times).

import type { Message, Reply, SharedModule } from './protocol.js';

/** The size of a helper's stack in bytes: half of the engine's own. It must be a multiple of 64 KiB. */
const STACK_BYTES = 512 << 10;

/** The milliseconds after which the engine starts without the helpers that have not arrived. */
const ARRIVAL_TIMEOUT = 10_000;

/** Imports the bindings of the module with threads. */
export function importThreaded(relaxed: boolean): Promise<typeof import('../wasm/googlenet_cpu_threads.js')> {
  return relaxed ? import('../wasm/googlenet_cpu_relaxed_threads.js') : import('../wasm/googlenet_cpu_threads.js');
}

/** Asks the page to start helper workers. Resolves once each has arrived or failed, or after a timeout. */
export function requestHelpers(shared: SharedModule, count: number): Promise<void> {
  return new Promise((resolve) => {
    const listen = ({ data }: MessageEvent<Message>) => {
      if ('arrived' in data) done();
    };
    const done = () => {
      clearTimeout(timeout);
      self.removeEventListener('message', listen);
      resolve();
    };
    const timeout = setTimeout(done, ARRIVAL_TIMEOUT);
    self.addEventListener('message', listen);
    self.postMessage({ helpers: count, shared } satisfies Reply);
  });
}

/** Runs a helper worker: it works for the engine until the engine is freed. */
export async function runHelper({ relaxed, module, memory }: SharedModule): Promise<void> {
  const { default: init, Helper } = await importThreaded(relaxed);
  const exports = await init({ module_or_path: module, memory, thread_stack_size: STACK_BYTES });
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

// Workers that help the engine's: they run the same module on the same memory. They end with the engine
// they help, and at the latest with the worker that started them.

/** What a helper is told. */
interface Shared {
  relaxed: boolean;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

const NAME = 'googlenet-helper';

/** A helper's stack: half of what the engine's own has. A multiple of 64 KiB. */
const STACK = 512 << 10;

/** Milliseconds after which the engine starts without those that have not arrived. */
const PATIENCE = 10_000;

/** The bindings of a module with threads. */
export function threaded(relaxed: boolean): Promise<typeof import('./wasm/googlenet_threads')> {
  return relaxed ? import('./wasm/googlenet_relaxed_threads') : import('./wasm/googlenet_threads');
}

/** Kept, as a worker that nobody refers to may be collected. Those before them have been let go. */
let helpers: Worker[] = [];

/** Starts helpers. Resolves when all have arrived, or those that will. */
export async function summon(shared: Shared, count: number): Promise<void> {
  const late = new Promise<void>((resolve) => setTimeout(resolve, PATIENCE));
  // A helper is the engine's worker over again: bundlers need not know of it.
  const one = () => new Worker(self.location.href, { type: 'module', name: NAME });
  helpers = Array.from({ length: count }, one);
  await Promise.race([late, Promise.all(helpers.map((helper) => send(helper, shared)))]);
}

/** Resolves when a helper has arrived, or has failed to. */
function send(helper: Worker, shared: Shared): Promise<void> {
  return new Promise((resolve) => {
    let arrived = false;
    helper.addEventListener('message', () => {
      arrived = true;
      resolve();
    });
    helper.addEventListener('error', (event) => {
      // From one at work it is a fault, and goes on to the page.
      if (arrived) return;
      event.preventDefault();
      console.warn('A helper worker could not start:', event.message);
      resolve();
    });
    helper.postMessage(shared);
  });
}

/** Whether this worker is one. */
export function isHelper(): boolean {
  return self.name === NAME;
}

/** What a helper does with its life. */
export function help(): void {
  self.addEventListener('message', ({ data }: MessageEvent<Shared>) => void assist(data).catch(reportError), {
    once: true,
  });
}

async function assist({ relaxed, module, memory }: Shared): Promise<void> {
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

// A worker with the module for learning: the learner itself, or a helper of it.

import init, { Helper, Learner } from '../../package/wasm/googlenet_learning_cpu_relaxed_threads';

/** The learner that the page asks for. */
export interface Request {
  /** The address of a model file. */
  model: string;
  heads: boolean;
  threads: number;
}

/** What a helper needs: the module, and the memory that threads share. */
export interface Shared {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** A call of one of the learner's functions. */
export interface Call {
  name: 'info' | 'gradient' | 'accumulate' | 'update' | 'weights' | 'run' | 'time';
  args: unknown[];
}

const STACK = 256 << 10;
const url = new URL('../../package/wasm/googlenet_learning_cpu_relaxed_threads_bg.wasm', import.meta.url);

/** Resolves to the next message. */
function told<T>(): Promise<T> {
  return new Promise((resolve) => self.addEventListener('message', ({ data }) => resolve(data), { once: true }));
}

async function learn(): Promise<void> {
  const { model, heads, threads } = await told<Request>();
  const bytes = new Uint8Array(await (await fetch(model)).arrayBuffer());
  const module = await WebAssembly.compileStreaming(fetch(url));
  const { memory } = await init({ module_or_path: module });
  self.postMessage({ module, memory } satisfies Shared);
  // The page posts this message once the helpers have arrived.
  await told();
  // Files of 1000 classes without labels need names, which do not matter here.
  const labels = Array.from({ length: 1000 }, (_, i) => `class ${i}`).join('\n');
  const learner = await Learner.load(bytes, heads, labels);
  learner.set_threads(threads);
  const functions: Record<string, (...args: never[]) => unknown> = {
    info: () => learner.info(),
    gradient: (...args: [Float32Array, string, string]) => learner.gradient(...args),
    accumulate: (...args: [Float32Array, string, string, number, number, boolean]) => learner.accumulate(...args),
    update: (change: string) => learner.update(change),
    weights: () => learner.weights(),
    run: (values: Float32Array) => learner.run(values),
    time: (values: Float32Array, objective: string, rounds: number) => time(learner, values, objective, rounds),
  };
  self.addEventListener('message', async ({ data: { name, args } }: MessageEvent<Call>) => {
    try {
      self.postMessage({ result: await functions[name]?.(...(args as never[])) });
    } catch (error) {
      const { message, code } = error as { message: string; code?: string };
      self.postMessage({ message, code });
    }
  });
  self.postMessage('ready');
}

/** The milliseconds of forward runs, of runs with gradients, and of changes of the weights. */
async function time(learner: Learner, values: Float32Array, objective: string, rounds: number) {
  const times: Record<'forward' | 'gradient' | 'update', number[]> = { forward: [], gradient: [], update: [] };
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    await learner.run(values);
    const ran = performance.now();
    await learner.accumulate(values, objective, '"weights"', round, 0, true);
    const done = performance.now();
    await learner.update(JSON.stringify({ rate: 1e-9, step: round }));
    times.forward.push(ran - start);
    times.gradient.push(done - ran);
    times.update.push(performance.now() - done);
  }
  return times;
}

async function help(): Promise<void> {
  const { module, memory } = await told<Shared>();
  await init({ module_or_path: module, memory, thread_stack_size: STACK });
  const helper = Helper.arrive();
  self.postMessage('arrived');
  try {
    helper.work();
  } catch (error) {
    helper.fail();
    throw error;
  }
}

if (self.name === 'helper') help().catch(reportError);
else learn().catch(reportError);

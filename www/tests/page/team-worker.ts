// The team of threads without an engine: this worker and its helpers.

import init, { Crew, Helper } from '../../src/wasm/team';

/** What the page asks for. */
export interface Exercise {
  threads: number;
  /** The task that throws, instead of the exercise. */
  failing?: number;
  /** Whether to measure, instead of the exercise. */
  measure?: boolean;
}

export interface Report {
  size: number;
  /** What went wrong; empty where nothing did. */
  wrong: string;
  /** Median microseconds of a fork and join that every thread takes part in, after pauses of microseconds. */
  latency: Record<number, number>;
}

const PAUSES = [0, 20, 50, 100, 1000];
const STACK = 256 << 10;
const url = new URL('../../src/wasm/team_bg.wasm', import.meta.url);

async function exercise({ threads, failing, measure }: Exercise): Promise<Report> {
  const module = await WebAssembly.compileStreaming(fetch(url));
  const { memory } = await init({ module_or_path: module });
  const helpers = Array.from({ length: threads - 1 }, async () => {
    const helper = new Worker(self.location.href, { type: 'module', name: 'helper' });
    helper.addEventListener('error', (event) => event.preventDefault());
    helper.postMessage({ module, memory });
    await new Promise((resolve) => helper.addEventListener('message', resolve, { once: true }));
    // When it has left.
    return new Promise((resolve) => helper.addEventListener('message', resolve, { once: true }));
  });
  // A moment more than they need, so that the first teams are whole.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const crew = new Crew(threads);
  const report: Report = { size: crew.size(), wrong: '', latency: {} };
  try {
    if (failing !== undefined) crew.fail(failing);
    if (measure) for (const pause of PAUSES) report.latency[pause] = crew.latency(500, pause);
    else report.wrong = crew.exercise();
    crew.free();
    await Promise.all(helpers);
  } catch (error) {
    report.wrong = String(error);
  }
  return report;
}

async function help(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<void> {
  const { __wbindgen_thread_destroy } = await init({ module_or_path: module, memory, thread_stack_size: STACK });
  const helper = Helper.arrive();
  self.postMessage('arrived');
  try {
    helper.work();
  } catch (error) {
    helper.fail();
    throw error;
  }
  helper.free();
  __wbindgen_thread_destroy();
  self.postMessage('left');
  self.close();
}

self.addEventListener('message', ({ data }) => {
  if (self.name === 'helper') void help(data.module, data.memory).catch(reportError);
  else void exercise(data).then((report) => self.postMessage(report), reportError);
});

// The team of threads without an engine: this worker, or a helper of it.

import init, { Crew, Helper } from '../../package/wasm/team';

/** What the page asks for. */
export interface Exercise {
  threads: number;
  /** The task that throws, instead of the exercise. */
  failing?: number;
  /** Whether to measure, instead of the exercise. */
  measure?: boolean;
}

/** What a helper needs. */
export interface Shared {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
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
const url = new URL('../../package/wasm/team_bg.wasm', import.meta.url);

/** What the next message says. */
function told<T>(): Promise<T> {
  return new Promise((resolve) => self.addEventListener('message', ({ data }) => resolve(data), { once: true }));
}

async function exercise(): Promise<Report> {
  const { threads, failing, measure } = await told<Exercise>();
  const module = await WebAssembly.compileStreaming(fetch(url));
  const { memory } = await init({ module_or_path: module });
  self.postMessage({ module, memory } satisfies Shared);
  // When the helpers have arrived.
  await told();
  const crew = new Crew(threads);
  const report: Report = { size: crew.size(), wrong: '', latency: {} };
  try {
    if (failing !== undefined) crew.fail(failing);
    if (measure) for (const pause of PAUSES) report.latency[pause] = crew.latency(500, pause);
    else report.wrong = crew.exercise();
    crew.free();
  } catch (error) {
    report.wrong = String(error);
  }
  return report;
}

async function help(): Promise<void> {
  const { module, memory } = await told<Shared>();
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

if (self.name === 'helper') help().catch(reportError);
else exercise().then((report) => self.postMessage(report), reportError);

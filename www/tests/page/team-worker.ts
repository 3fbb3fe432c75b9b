// A worker for the team of threads without an engine: the caller, or a helper of it.

import init, { Crew, Helper } from '../../package/wasm/team';

/** The exercise that the page asks for. */
export interface Exercise {
  threads: number;
  /** The index of a task that throws; undefined for the whole exercise. */
  failing?: number;
  /** Whether to measure instead of running the exercise. */
  measure?: boolean;
}

/** What a helper needs: the module, and the memory that threads share. */
export interface Shared {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

export interface Report {
  size: number;
  /** What went wrong; empty if nothing did. */
  wrong: string;
  /** The median microseconds of a fork and join of every thread, by the pause before it in microseconds. */
  latency: Record<number, number>;
}

const PAUSES = [0, 20, 50, 100, 1000];
const STACK = 256 << 10;
const url = new URL('../../package/wasm/team_bg.wasm', import.meta.url);

/** Resolves to the next message. */
function told<T>(): Promise<T> {
  return new Promise((resolve) => self.addEventListener('message', ({ data }) => resolve(data), { once: true }));
}

async function exercise(): Promise<Report> {
  const { threads, failing, measure } = await told<Exercise>();
  const module = await WebAssembly.compileStreaming(fetch(url));
  const { memory } = await init({ module_or_path: module });
  self.postMessage({ module, memory } satisfies Shared);
  // The page posts this message once the helpers have arrived.
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

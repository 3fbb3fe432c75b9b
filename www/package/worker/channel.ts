// The two ways to a session: across a worker's boundary, and on the calling thread.

import { failure } from '../api/errors.js';
import { absolute } from '../api/models.js';
import type { Failure, Message, Reply, Shared } from './protocol.js';

export interface Channel {
  post(message: Message, moved: Transferable[]): void;
  close(): void;
}

type Listener = (reply: Reply) => void;

/** A session on the calling thread. */
export async function here(listener: Listener): Promise<Channel> {
  const { Session } = await import('./session.js');
  // Answers come later, as a worker's do.
  const session = new Session((reply) => queueMicrotask(() => listener(reply)));
  // A panic inside an asynchronous call surfaces here and leaves that call hanging.
  const fatal = (event: ErrorEvent) => {
    if ((event.error as Partial<Failure> | null)?.code !== 'internal') return;
    event.preventDefault();
    listener({ fatal: failure(event.error) });
  };
  globalThis.addEventListener?.('error', fatal);
  return {
    post: (message) => {
      if (!('arrived' in message)) session.receive(message);
    },
    close: () => {
      globalThis.removeEventListener?.('error', fatal);
      session.free();
    },
  };
}

/** A session in a worker of its own. */
export function elsewhere(listener: Listener, workerUrl: string | URL | undefined): Channel {
  const worker = start(workerUrl);
  const listening = listens(worker);
  /** Of the engine in force. Those before them have left with theirs. */
  let helpers: Worker[] = [];
  worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
    if ('summon' in data) void summon(data.summon, data.shared);
    else listener(data);
  });
  worker.addEventListener('error', (event) => {
    event.preventDefault();
    listener({ fatal: fault(`The engine could not start: ${event.message || NOT_FOUND}.`) });
  });

  /** Starts helpers for the worker, and tells it when all have arrived, or those that will. */
  async function summon(count: number, shared: Shared): Promise<void> {
    helpers = Array.from({ length: count }, () => start(workerUrl));
    const arrivals = await Promise.all(helpers.map((helper) => arrival(helper, shared)));
    worker.postMessage({ arrived: arrivals.filter(Boolean).length });
  }

  /** Whether a helper arrives. */
  function arrival(helper: Worker, shared: Shared): Promise<boolean> {
    return new Promise((resolve) => {
      let arrived = false;
      helper.addEventListener('message', ({ data }) => data === 'arrived' && resolve((arrived = true)));
      helper.addEventListener('error', (event) => {
        event.preventDefault();
        resolve(false);
        const message = `A helper of the engine failed: ${event.message || NOT_FOUND}.`;
        // Before its arrival nobody counts on it.
        if (arrived) listener({ fatal: fault(message) });
        else console.warn(message);
      });
      void listens(helper).then(() => helper.postMessage(shared));
    });
  }

  return {
    post: (message, moved) => void listening.then(() => worker.postMessage(message, moved)),
    close: () => {
      for (const each of [worker, ...helpers]) each.terminate();
    },
  };
}

/** When a worker listens. Where a bundler has split its script, that is later than its start, and what came is lost. */
function listens(worker: Worker): Promise<void> {
  return new Promise((resolve) => worker.addEventListener('message', () => resolve(), { once: true }));
}

const NOT_FOUND = 'its file could not be loaded; workerUrl says where it is';

const fault = (message: string): Failure => failure(message);

/** Starts a worker with the package's script. */
function start(workerUrl: string | URL | undefined): Worker {
  const own = import.meta.url;
  const url = workerUrl === undefined ? own : absolute(workerUrl);
  if (url.startsWith('http') && new URL(url).origin !== location.origin) {
    return foreign(workerUrl === undefined ? new URL('worker.js', own).href : url);
  }
  if (workerUrl !== undefined) return new Worker(url, { type: 'module', name: 'googlenet' });
  return new Worker(new URL('../worker.ts', import.meta.url), { type: 'module', name: 'googlenet' });
}

/** A worker's script must be of the page's own site, but it may import another's. */
function foreign(script: string): Worker {
  const blob = new Blob([`import ${JSON.stringify(script)};`], { type: 'text/javascript' });
  const url = URL.createObjectURL(blob);
  const worker = new Worker(url, { type: 'module', name: 'googlenet' });
  // By its first word the script has been read.
  worker.addEventListener('message', () => URL.revokeObjectURL(url), { once: true });
  return worker;
}

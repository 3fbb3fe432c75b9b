// The two ways to run a session: in a worker, and on the calling thread.

import { failure } from '../api/errors.js';
import { absolute } from '../api/models.js';
import type { Failure, Message, Reply, SharedModule } from './protocol.js';

/** A connection to a session. */
export interface Channel {
  post(message: Message, transfer: Transferable[]): void;
  /** Ends the session and frees what it holds. */
  close(): void;
}

type Listener = (reply: Reply) => void;

/** Runs a session on the calling thread. */
export async function inThisThread(listener: Listener): Promise<Channel> {
  const { Session } = await import('./session.js');
  // Replies are delivered asynchronously, as those of a worker are.
  const session = new Session((reply) => queueMicrotask(() => listener(reply)));
  // A panic inside an asynchronous call of the engine is reported here, and the call itself never ends.
  const onPanic = (event: ErrorEvent) => {
    if ((event.error as Partial<Failure> | null)?.code !== 'internal') return;
    event.preventDefault();
    listener({ fatal: failure(event.error) });
  };
  globalThis.addEventListener?.('error', onPanic);
  return {
    post: (message) => {
      if (!('arrived' in message)) session.receive(message);
    },
    close: () => {
      globalThis.removeEventListener?.('error', onPanic);
      session.free();
    },
  };
}

/** Runs a session in a worker of its own. `workerUrl` is the address of the script. Default: the bundler's. */
export function inWorker(listener: Listener, workerUrl: string | URL | undefined): Channel {
  const worker = startWorker(workerUrl);
  const listening = isListening(worker);
  /** The helper workers of the engine in use. Those of earlier engines have ended with them. */
  let helpers: Worker[] = [];
  worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
    if ('helpers' in data) void startHelpers(data.helpers, data.shared);
    else listener(data);
  });
  worker.addEventListener('error', (event) => {
    event.preventDefault();
    listener({ fatal: failure(`The engine could not start: ${event.message || NOT_FOUND}.`) });
  });

  /** Starts helper workers for the session, and tells it how many have arrived once each has arrived or failed. */
  async function startHelpers(count: number, shared: SharedModule): Promise<void> {
    helpers = Array.from({ length: count }, () => startWorker(workerUrl));
    const arrivals = await Promise.all(helpers.map((helper) => arrives(helper, shared)));
    worker.postMessage({ arrived: arrivals.filter(Boolean).length });
  }

  /** Resolves to whether a helper worker has arrived. */
  function arrives(helper: Worker, shared: SharedModule): Promise<boolean> {
    return new Promise((resolve) => {
      let arrived = false;
      helper.addEventListener('message', ({ data }) => data === 'arrived' && resolve((arrived = true)));
      helper.addEventListener('error', (event) => {
        event.preventDefault();
        resolve(false);
        const message = `A helper of the engine failed: ${event.message || NOT_FOUND}.`;
        // The engine waits only for helpers that have arrived.
        if (arrived) listener({ fatal: failure(message) });
        else console.warn(message);
      });
      void isListening(helper).then(() => helper.postMessage(shared));
    });
  }

  return {
    post: (message, transfer) => void listening.then(() => worker.postMessage(message, transfer)),
    close: () => {
      for (const each of [worker, ...helpers]) each.terminate();
    },
  };
}

/**
 * Resolves once a worker listens. Where a bundler has split the worker's script, that is some time after its start, and
 * messages that were posted before are lost.
 */
function isListening(worker: Worker): Promise<void> {
  return new Promise((resolve) => worker.addEventListener('message', () => resolve(), { once: true }));
}

const NOT_FOUND = 'its file could not be loaded; set workerUrl to its address';

/** Starts a worker with the package's script. */
function startWorker(workerUrl: string | URL | undefined): Worker {
  const own = import.meta.url;
  const url = workerUrl === undefined ? own : absolute(workerUrl);
  if (url.startsWith('http') && new URL(url).origin !== location.origin) {
    return startCrossOrigin(workerUrl === undefined ? new URL('worker.js', own).href : url);
  }
  if (workerUrl !== undefined) return new Worker(url, { type: 'module', name: 'googlenet' });
  // Bundlers recognise this expression only as it is written here.
  return new Worker(new URL('../worker.ts', import.meta.url), { type: 'module', name: 'googlenet' });
}

/** Starts a worker whose script is on another origin: a script of the page's own origin imports it. */
function startCrossOrigin(script: string): Worker {
  const blob = new Blob([`import ${JSON.stringify(script)};`], { type: 'text/javascript' });
  const url = URL.createObjectURL(blob);
  const worker = new Worker(url, { type: 'module', name: 'googlenet' });
  // The script has been read by the time of its first message.
  worker.addEventListener('message', () => URL.revokeObjectURL(url), { once: true });
  return worker;
}

// The worker that owns the engine: everything heavy happens here.

import { download } from './download';
import { engines, wanted, type Engine, type Engines } from './engines';
import { GoogLeNetError, failure } from './errors';
import { help, isHelper } from './helpers';
import { pixels } from './pixels';
import type { Activation, Answer, Backend, Call, Calls, Info, Layer, Message, Progress, Reply, Request, StepTime } from './protocol';

type Report = (progress: Progress) => void;
type Handler<C extends Call> = (args: Calls[C]['args'], report: Report) => Promise<Calls[C]['result']>;

/** What a safetensors file that is not ours is refused for: it may be another framework's. */
const FOREIGN = ['metadata', 'missing-tensor', 'extra-tensor', 'tensor-type'];

let wasm: Engines | undefined;
let engine: Engine | undefined;
/** How many are asked for. */
let threads = 1;
/** Kept so that a change of backend needs no second download. */
let file: Uint8Array | undefined;
/** Whether the engine has its auxiliary heads. */
let withHeads = true;

const handlers: { [C in Call]: Handler<C> } = {
  async load({ model, backend, heads, simd, ...options }, report) {
    threads = wanted(options.threads);
    const [bytes, module] = await Promise.all([download(model, report), engines(simd, threads)]);
    wasm = module;
    const name = model instanceof File ? model.name : 'a file';
    // Its header, after 8 bytes of length, is JSON.
    if (bytes[8] !== '{'.charCodeAt(0)) return start(await convert(bytes, name), backend, heads, report);
    try {
      return await start(bytes, backend, heads, report);
    } catch (error) {
      if (!FOREIGN.includes(failure(error).code)) throw error;
      const converted = await convert(bytes, name).catch(() => {
        throw error;
      });
      return start(converted, backend, heads, report);
    }
  },
  async move({ backend }, report) {
    if (!file) throw notLoaded();
    return start(file, backend, withHeads, report);
  },
  async classify({ picture, crop, top }) {
    const { data, width, height } = await pixels(picture);
    const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return (await loaded().classify(rgba, width, height, crop, top)) as Answer;
  },
  async run({ values }) {
    return (await loaded().run_tensor(values)) as Record<string, Float32Array>;
  },
  async read({ node }) {
    return (await loaded().read(node)) as Activation;
  },
  async layers() {
    return loaded().layers() as Layer[];
  },
  async profile({ timed }) {
    return loaded().profile(timed) as StepTime[];
  },
  async gain({ branch, gain }) {
    loaded().set_gain(branch, gain);
    return undefined;
  },
};

/** Another framework's file as one of ours. The importers are large, and fetched when they are needed. */
async function convert(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const importers = await import('./wasm/importers');
  await importers.default();
  return importers.convert(bytes, name);
}

/** Starts an engine; the one before it stays in use if that fails. */
async function start(bytes: Uint8Array, backend: Backend, heads: boolean, report: Report): Promise<Info> {
  if (!wasm) throw notLoaded();
  report({ stage: 'prepare' });
  const next = await wasm.load(bytes, backend, heads);
  engine?.free();
  engine = next;
  file = bytes;
  withHeads = heads;
  // Only now it is known that there is work for them.
  if (threads > 1 && (next.info() as Info).backend === 'cpu') await wasm.share(next, threads);
  return next.info() as Info;
}

function loaded(): Engine {
  if (!engine) throw notLoaded();
  return engine;
}

function notLoaded(): GoogLeNetError {
  return new GoogLeNetError({ code: 'argument', detail: undefined, message: 'No model is loaded yet.' });
}

async function answer({ id, call, args }: Request): Promise<void> {
  try {
    const handler = handlers[call] as Handler<Call>;
    const result = await handler(args, (progress) => post({ id, progress }));
    post({ id, result });
  } catch (thrown) {
    post({ id, error: failure(thrown) });
  }
}

function post(reply: Reply): void {
  self.postMessage(reply);
}

if (isHelper()) help();
else serve();

function serve(): void {
  // One call at a time, in the order in which they came.
  let last = Promise.resolve();
  self.addEventListener('message', ({ data }: MessageEvent<Message>) => {
    if ('call' in data) last = last.then(() => answer(data));
  });

  // A panic inside an asynchronous call surfaces here and leaves that call hanging.
  self.addEventListener('error', (event) => {
    event.preventDefault();
    post({ fatal: failure(event.error ?? event.message) });
  });
  self.addEventListener('unhandledrejection', (event) => {
    event.preventDefault();
    post({ fatal: failure(event.reason) });
  });
}

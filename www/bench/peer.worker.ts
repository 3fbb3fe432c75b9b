// The worker in which a peer runs. It loads only the peer that is named in the first message.

import type { Framework, On, Reply, Start } from './peer';
import type { Variant } from './runtime';

export type Run = (input: Float32Array) => Promise<Float32Array>;
type Load = (variant: Variant, on: On, threads: number) => Promise<Run>;

const LOADERS: Record<Framework, () => Promise<{ load: Load }>> = {
  // This measures what the page, the worker and the messages cost by themselves.
  nothing: async () => ({ load: async () => async () => new Float32Array(1000) }),
  onnxruntime: () => import('./onnxruntime'),
  tensorflow: () => import('./tensorflow'),
  litert: () => import('./litert'),
};

let run: Run | undefined;

async function answer(message: Start | Float32Array): Promise<Reply> {
  if (message instanceof Float32Array) {
    if (!run) throw new Error('nothing is loaded');
    return { output: await run(message) };
  }
  const { load } = await LOADERS[message.framework]();
  run = await load(message.variant, message.on, message.threads);
  return { ready: true };
}

self.addEventListener('message', ({ data }: MessageEvent<Start | Float32Array>) => {
  answer(data).then(
    (reply) => self.postMessage(reply),
    (error: unknown) => self.postMessage({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});

// A peer in a worker of its own, like our engine: it has the same two messages per run, and the same copies.

import type { Net, Variant } from './runtime';

export type Framework = 'nothing' | 'onnxruntime' | 'tensorflow' | 'litert';

/** The backend of a runtime. */
export type On = 'wasm' | 'webgpu';

/** The first message to the worker; the others are inputs. */
export interface Start {
  framework: Framework;
  variant: Variant;
  on: On;
  threads: number;
}

export type Reply = { ready: true } | { output: Float32Array } | { error: string };

export async function open(framework: Framework, variant: Variant, on: On, threads = 1): Promise<Net> {
  const worker = new Worker(new URL('./peer.worker.ts', import.meta.url), { type: 'module', name: framework });
  const ask = (message: Start | Float32Array) =>
    new Promise<Reply>((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(`${framework}: ${event.message}`));
      worker.onmessage = ({ data }: MessageEvent<Reply>) => {
        if ('error' in data) reject(new Error(`${framework}: ${data.error}`));
        else resolve(data);
      };
      worker.postMessage(message);
    });
  await ask({ framework, variant, on, threads });
  return {
    async run(input) {
      const reply = await ask(input);
      if (!('output' in reply)) throw new Error(`${framework} gave no output`);
      return reply.output;
    },
    close: () => worker.terminate(),
  };
}

// onnxruntime-web's builds without GPU backends and with WebGPU, with their files as published.

import type * as Ort from 'onnxruntime-web/wasm';
import type { On } from './peer';
import type { Run } from './peer.worker';
import { model, type Variant } from './runtime';

export async function load(variant: Variant, on: On, threads: number): Promise<Run> {
  const files = new URL('/assets/onnxruntime/', location.href).href;
  const ort = (await import(/* @vite-ignore */ `${files}ort.${on}.min.mjs`)) as typeof Ort;
  ort.env.wasm.wasmPaths = files;
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(model(`${variant}.onnx`), {
    executionProviders: [on],
    graphOptimizationLevel: 'all',
  });
  return async (input) => {
    const data = new ort.Tensor('float32', input, [1, 3, 224, 224]);
    const { prob } = await session.run({ data });
    return (await prob!.getData()) as Float32Array;
  };
}

// LiteRT.js on its wasm CPU path or on WebGPU.

import { loadAndCompile, loadLiteRt, Tensor, type CompileOptions } from '@litertjs/core';
import type { On } from './peer';
import type { Run } from './peer.worker';
import { model, type Variant } from './runtime';

export async function load(variant: Variant, on: On, threads: number): Promise<Run> {
  const files = new URL('/assets/litert/', location.href).href;
  const threaded = threads > 1;
  const script = `${files}litert_wasm${threaded ? '_threaded' : ''}_internal.js`;
  Object.assign(self, {
    // LiteRT loads its script as in a classic worker, and looks for its files beside the worker's script.
    importScripts,
    Module: { mainScriptUrlOrBlob: script, locateFile: (file: string) => files + file },
  });
  await loadLiteRt(files, { threads: threaded });
  const options = { accelerator: on, cpuOptions: { numThreads: threads } } satisfies CompileOptions;
  const net = await loadAndCompile(model(`${variant}.tflite`), options);
  return async (input) => {
    const data = new Tensor(input, [1, 224, 224, 3]);
    const [prob] = await net.run(data);
    const values = (await prob!.data()) as Float32Array;
    data.delete();
    prob!.delete();
    return values;
  };
}

/** The function that module workers lack. */
function importScripts(url: string): void {
  const request = new XMLHttpRequest();
  request.open('GET', url, false);
  request.send();
  // An indirect eval makes its declarations global, as a script's are.
  (0, eval)(`${request.responseText}\n//# sourceURL=${url}`);
}

// Model files of other frameworks.

import { compile } from './files.js';

/**
 * Converts a model file of Keras, Caffe or ONNX to a safetensors file. The importers' module is large, and is fetched
 * only here.
 *
 * `name` is the file's name, and `imported` is the option of that name as JSON. Throws an `import` error for a file
 * that no importer can read.
 */
export async function convertModel(
  bytes: Uint8Array,
  { name, imported, wasmUrl }: { name: string; imported: string; wasmUrl: string | undefined },
): Promise<Uint8Array> {
  const [{ default: init, convert }, module] = await Promise.all([
    import('../wasm/importers.js'),
    compile(new URL('../wasm/importers_bg.wasm', import.meta.url), 'importers', wasmUrl),
  ]);
  await init({ module_or_path: module });
  return convert(bytes, name, imported);
}

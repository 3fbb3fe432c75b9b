// Fetches the files of the engine: its modules, and the names of ImageNet's classes.

import { GoogLeNetError } from '../api/errors.js';
import { readFile } from './node.js';

/** The addresses of the engine's files that were fetched. */
export const fetchedFiles: string[] = [];

/**
 * Fetches and compiles a module.
 *
 * `bundled` is its address as the bundler knows it. With `wasmUrl` the file `${name}_bg.wasm` is fetched from that
 * folder instead. Throws a `download` error where that fails.
 */
export function compile(bundled: URL, name: string, wasmUrl: string | undefined): Promise<WebAssembly.Module> {
  return fetchFile({
    bundled,
    name: `${name}_bg.wasm`,
    wasmUrl,
    read: async (response) => {
      // Not every server sends the type that streaming needs.
      const streams = response.headers.get('content-type')?.startsWith('application/wasm');
      return streams ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
    },
  });
}

/** Fetches the names of ImageNet's classes, one on a line. */
export function fetchImagenetLabels(wasmUrl: string | undefined): Promise<string> {
  const bundled = new URL('../wasm/imagenet_labels.txt', import.meta.url);
  return fetchFile({ bundled, name: 'imagenet_labels.txt', wasmUrl, read: (response) => response.text() });
}

interface EngineFile<T> {
  /** The file's address as the bundler knows it. */
  bundled: URL;
  /** The file's name in the folder `wasmUrl`. */
  name: string;
  wasmUrl: string | undefined;
  read: (response: Response) => Promise<T>;
}

async function fetchFile<T>({ bundled, name, wasmUrl, read }: EngineFile<T>): Promise<T> {
  const url = wasmUrl === undefined ? bundled : new URL(name, wasmUrl);
  try {
    const response = url.protocol === 'file:' ? new Response(await readFile(url)) : await fetch(url);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const content = await read(response);
    if (!fetchedFiles.includes(url.href)) fetchedFiles.push(url.href);
    return content;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `The engine could not be loaded from ${url}: ${why}. Set wasmUrl to the folder of its files.`;
    throw new GoogLeNetError({ code: 'download', detail: url.href, message }, { cause });
  }
}

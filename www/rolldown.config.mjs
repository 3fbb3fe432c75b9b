// Bundles the package's JavaScript into dist/. References to files beside it (`new URL(..., import.meta.url)`) are kept
// as they are, so that the bundlers of those who use the package find them.

import { readdirSync } from 'node:fs';

/** The bindings of the WebAssembly modules stay files of their own: a browser loads only the ones it uses. */
const BINDINGS = /\/wasm\/(\w+\.js)$/;

/** All of dist/'s scripts lie in its root, while the sources lie in folders: adapts the addresses of files beside them. */
const flatten = {
  name: 'flatten',
  transform: (code) =>
    code
      .replace("new URL('../worker.ts'", "new URL('./worker.js'")
      .replaceAll("new URL('../wasm/", "new URL('./wasm/")
      .replaceAll("new URL('../../models/", "new URL('./models/"),
  resolveId: (source) => {
    const [, name] = BINDINGS.exec(source) ?? [];
    return name && { id: `./wasm/${name}`, external: true };
  },
};

// Class names are kept, because consoles show them.
const minify = { compress: { keepNames: { function: false, class: true } }, mangle: { keepNames: { function: false, class: true } } };

const output = { dir: 'dist', format: 'esm', minify, entryFileNames: '[name].js', chunkFileNames: '[name].js' };

const bindings = readdirSync('package/wasm').filter((file) => /^(googlenet|importers).*\.js$/.test(file));

export default [
  { input: { index: 'package/index.ts', element: 'package/element.ts' }, plugins: [flatten], output },
  // The worker is bundled by itself, so that this one file can be copied to where a bundler leaves it out.
  { input: { worker: 'package/worker.ts' }, plugins: [flatten], output: { ...output, codeSplitting: false } },
  ...bindings.map((file) => ({ input: `package/wasm/${file}`, output: { ...output, dir: 'dist/wasm' } })),
];

// The package's JavaScript, into dist/. What asks for a file beside it (`new URL(..., import.meta.url)`) is left as it
// is, for the bundlers of those who use the package.

import { readdirSync } from 'node:fs';

/** Where things stand in dist/, which differs from src/. */
const moved = {
  name: 'moved',
  transform: (code) => code.replace("new URL('./worker.ts'", "new URL('./worker.js'").replaceAll("'../models/", "'./models/"),
};

/** The engine's own bindings are files of their own: a browser loads one of the four. */
const external = /\/wasm\/\w+\.js$/;

// Names of classes are what a console shows.
const minify = { compress: { keepNames: { function: false, class: true } }, mangle: { keepNames: { function: false, class: true } } };

const output = { dir: 'dist', format: 'esm', minify, entryFileNames: '[name].js', chunkFileNames: '[name].js' };

const bindings = readdirSync('src/wasm').filter((file) => /^(googlenet|importers).*\.js$/.test(file));

export default [
  { input: { index: 'src/index.ts', element: 'src/element.ts' }, external, plugins: [moved], output },
  // By itself, so that one file can be copied to where a bundler leaves it out.
  { input: { worker: 'src/worker.ts' }, external, plugins: [moved], output: { ...output, codeSplitting: false } },
  ...bindings.map((file) => ({ input: `src/wasm/${file}`, output: { ...output, dir: 'dist/wasm' } })),
];

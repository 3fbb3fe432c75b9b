import { defineConfig, type Plugin } from 'vite';

/**
 * TensorFlow.js hands the source of a function to its threads, where a name from outside it is unknown. It asks
 * `typeof` first; minifying renames the one and drops the other.
 */
const tensorflowThreads: Plugin = {
  name: 'tensorflow-threads',
  transform: (code, id) =>
    id.endsWith('/tfjs-backend-wasm-threaded-simd.js')
      ? code.replace('if(typeof _scriptDir !== "undefined" && _scriptDir){scriptDirectory=_scriptDir}', '')
      : undefined,
};

export default defineConfig(({ mode }) => ({
  // The page may live under any path.
  base: './',
  root: { tests: 'tests/page', bench: 'bench' }[mode] ?? '.',
  build: {
    target: 'es2022',
    // No data: addresses, so that a strict content policy can hold.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es', plugins: () => (mode === 'bench' ? [tensorflowThreads] : []) },
}));

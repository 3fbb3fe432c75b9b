import { defineConfig } from 'vite';

export default defineConfig(({ mode }) => ({
  // The page may live under any path.
  base: './',
  root: mode === 'tests' ? 'tests/page' : '.',
  build: {
    target: 'es2022',
    // No data: addresses, so that a strict content policy can hold.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
}));

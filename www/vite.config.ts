import { defineConfig, type Plugin } from 'vite';
import { VitePWA } from 'vite-plugin-pwa';

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

/** What the page may do. It asks other origins only for a picture whose address a person gives. */
const POLICY = {
  'default-src': "'none'",
  'script-src': "'self' 'wasm-unsafe-eval'",
  'worker-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' blob:",
  'media-src': "'self' blob:",
  'connect-src': "'self' blob: http: https:",
  'manifest-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
};

/** The policy is part of the page, so that it holds wherever that is served. Not while developing: Vite adds styles. */
const contentPolicy: Plugin = {
  name: 'content-policy',
  apply: 'build',
  transformIndexHtml: () => {
    const content = Object.entries(POLICY).map((entry) => entry.join(' ')).join('; ');
    return [{ tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content }, injectTo: 'head-prepend' }];
  },
};

/** The page works without a network after a visit. A new version waits until the old one's pages are closed. */
const offline = VitePWA({
  injectRegister: null,
  registerType: 'prompt',
  manifest: {
    name: 'GoogLeNet, live',
    short_name: 'GoogLeNet',
    description: 'Drop a photograph and watch every branch of GoogLeNet look at it, on your own device.',
    start_url: '.',
    display: 'standalone',
    background_color: '#f6f5f1',
    theme_color: '#0d6b62',
    icons: [{ src: 'favicon.svg', sizes: 'any', type: 'image/svg+xml' }],
  },
  workbox: {
    globPatterns: ['**/*.{html,js,css,svg,jpg}'],
    clientsClaim: true,
    // One page, whatever it is asked to show; and other folders of the server are not it.
    ignoreURLParametersMatching: [/./],
    navigateFallback: null,
    runtimeCaching: [
      { urlPattern: ({ url, sameOrigin }) => sameOrigin && url.pathname.endsWith('/models/index.json'), handler: 'NetworkFirst' },
      // Named by their content.
      { urlPattern: ({ url, sameOrigin }) => sameOrigin && /\/assets\/[^/]+\.(wasm|txt)$/.test(url.pathname), handler: 'CacheFirst' },
    ],
  },
});

export default defineConfig(({ mode }) => ({
  // The page may live under any path.
  base: './',
  root: { tests: 'tests/page', bench: 'bench' }[mode] ?? '.',
  plugins: mode === 'production' ? [contentPolicy, offline] : [],
  build: {
    target: 'es2022',
    // No data: addresses, so that the policy can hold.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What is bundled asks that its notice goes with it.
    license: { fileName: 'licences.md' },
  },
  worker: { format: 'es', plugins: () => (mode === 'bench' ? [tensorflowThreads] : []) },
}));

import { defineConfig, type Plugin } from 'vite';
import { VitePWA } from 'vite-plugin-pwa';

/**
 * TensorFlow.js passes the source of a function to its threads, where names from outside the function are undefined.
 * The function tests this one with `typeof`; minifying renames the variable and removes the test.
 */
const tensorflowThreads: Plugin = {
  name: 'tensorflow-threads',
  transform: (code, id) =>
    id.endsWith('/tfjs-backend-wasm-threaded-simd.js')
      ? code.replace('if(typeof _scriptDir !== "undefined" && _scriptDir){scriptDirectory=_scriptDir}', '')
      : undefined,
};

/** The page's content security policy. Other origins are asked only for pictures whose address the user enters. */
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

/**
 * Writes the policy into the page, so that it holds wherever the page is served. It is left out of the development
 * server, where Vite adds styles.
 */
const contentPolicy: Plugin = {
  name: 'content-policy',
  apply: 'build',
  transformIndexHtml: () => {
    const content = Object.entries(POLICY).map((entry) => entry.join(' ')).join('; ');
    return [{ tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content }, injectTo: 'head-prepend' }];
  },
};

/** Makes the page work offline after a visit. A new version waits until all pages of the old one are closed. */
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
    // The parameters of the address do not change the files; other folders of the server do not belong to the page.
    ignoreURLParametersMatching: [/./],
    navigateFallback: null,
    runtimeCaching: [
      { urlPattern: ({ url, sameOrigin }) => sameOrigin && url.pathname.endsWith('/models/index.json'), handler: 'NetworkFirst' },
      // Their names contain the hash of their content.
      { urlPattern: ({ url, sameOrigin }) => sameOrigin && /\/assets\/[^/]+\.(wasm|txt)$/.test(url.pathname), handler: 'CacheFirst' },
    ],
  },
});

export default defineConfig(({ mode }) => ({
  // The page may be served under any path.
  base: './',
  root: { tests: 'tests/page', bench: 'bench' }[mode] ?? '.',
  plugins: mode === 'production' ? [contentPolicy, offline] : [],
  build: {
    target: 'es2022',
    // The policy allows no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The licences of bundled packages require their notices.
    license: { fileName: 'licences.md' },
  },
  worker: { format: 'es', plugins: () => (mode === 'bench' ? [tensorflowThreads] : []) },
}));

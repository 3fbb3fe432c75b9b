// Nothing here is about googlenet-web: webpack finds its worker, its wasm and its weights by itself.
export default {
  mode: 'production',
  entry: './src/index.js',
  output: { filename: 'bundle.js', clean: true },
  performance: { hints: false },
};

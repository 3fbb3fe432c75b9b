// Our engine through its own API: what an application calls. All that the benchmark knows of it is here.

import { GoogLeNet } from '../src/client';
import { model, type Net, type Runtime } from './runtime';

const NAMES = { plain: 'googlenet-web simd', relaxed: 'googlenet-web relaxed' };

function ours(simd: keyof typeof NAMES, threads: number, size = 224, batch = 1): Runtime {
  return {
    name: NAMES[simd],
    package: 'googlenet-web',
    threads,
    layout: 'hwc',
    size,
    batch,
    open: (variant) => open(model(size === 224 ? `${variant}.safetensors` : `${variant}-${size}.safetensors`)),
  };
}

async function open(model: string): Promise<Net> {
  const net = await GoogLeNet.load({ model, backend: 'cpu' });
  return {
    run: async (input) => (await net.run(input))['loss3']!,
    close: () => net.close(),
    macs: async () => (await net.layers()).reduce((sum, layer) => sum + layer.macs, 0),
  };
}

export const OURS: Runtime[] = [ours('plain', 1)];

/** Batches and sizes whose time should grow as the work does. */
export const SCALE: Runtime[] = [
  ...[1, 2, 4, 8].map((batch) => ours('plain', 1, 224, batch)),
  ...[320, 448].map((size) => ours('plain', 1, size)),
];

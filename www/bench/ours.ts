// Our engine through its public API. This file is all that the benchmark knows of it.

import { GoogLeNet, type StepTime } from '../package/index.js';
import { model, type Net, type Runtime, type Step } from './runtime';

const NAMES = { plain: 'googlenet-web simd', relaxed: 'googlenet-web relaxed' };
type Simd = keyof typeof NAMES;

function ours(simd: Simd, threads: number, size = 224, batch = 1): Runtime {
  return {
    name: NAMES[simd],
    package: 'googlenet-web',
    threads,
    layout: 'hwc',
    size,
    batch,
    open: (variant) => open(model(size === 224 ? `${variant}.safetensors` : `${variant}-${size}.safetensors`), simd, threads),
  };
}

async function open(model: string, simd: Simd, threads: number): Promise<Net> {
  const net = await GoogLeNet.load({ model, backend: 'cpu', simd, threads });
  if (net.info.threads !== threads) throw new Error(`there are ${net.info.threads} threads, not ${threads}`);
  return opened(net);
}

function opened(net: GoogLeNet): Net {
  return {
    run: async (input) => (await net.run(input))['loss3']!,
    close: () => net.free(),
    macs: async () => net.layers.reduce((sum, layer) => sum + layer.macs, 0),
    steps: (input) => steps(net, input),
  };
}

async function steps(net: GoogLeNet, input: Float32Array): Promise<Step[]> {
  await net.profile(true);
  await net.run(input);
  const seen: StepTime[] = await net.profile(false);
  return seen.map((step) => {
    const layer = net.layers.find((other) => other.layer === step.node);
    const macs = layer?.macs ?? 0;
    return { kind: layer?.kind ?? '', executed: macs, ...step, macs };
  });
}

export const OURS_GPU: Runtime[] = [
  {
    name: 'googlenet-web',
    package: 'googlenet-web',
    threads: 1,
    layout: 'hwc',
    size: 224,
    batch: 1,
    open: async (variant) => opened(await GoogLeNet.load({ model: model(`${variant}.safetensors`), backend: 'gpu' })),
  },
];

export const OURS: Runtime[] = [1, 2].flatMap((threads) => [ours('plain', threads), ours('relaxed', threads)]);

/** Batch sizes and input sizes, whose times should grow with the work. */
export const SCALE: Runtime[] = [
  ...[1, 2, 4, 8].map((batch) => ours('relaxed', 1, 224, batch)),
  ...[320, 448].map((size) => ours('relaxed', 1, size)),
];

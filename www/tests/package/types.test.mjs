// The packed package as TypeScript checks it, with the strictest options.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { project, tool } from './support.mjs';

const CONSUMER = `
import { GoogLeNet, GoogLeNetError, type Answer, type Info, type Layer, type LoadOptions, type Outcome, type Progress } from 'googlenet-web';
import { GoogLeNetClassifier, type ClassifierEvents } from 'googlenet-web/element';
import 'googlenet-web/worker';
import { Engine } from 'googlenet-web/wasm/googlenet_cpu';

const heard: Progress[] = [];
const options: LoadOptions = { model: 'cifar10', backend: 'auto', threads: 2, f16: false, worker: true, onProgress: (p) => void heard.push(p) };

export async function look(file: File, video: HTMLVideoElement, frame: VideoFrame, canvas: OffscreenCanvas): Promise<string | undefined> {
  using net = await GoogLeNet.load(options);
  const info: Info = net.info;
  const backend: 'webgpu' | 'wasm' = info.backend;
  const layers: readonly Layer[] = net.layers;
  const answer: Answer = await net.classify(file, { top: 3, crop: 'fit', signal: AbortSignal.timeout(1000) });
  const outcomes: Outcome[] = await net.classifyMany([video, frame, canvas, new URL('https://example.com')], { batch: 2 });
  for (const outcome of outcomes) if (outcome instanceof GoogLeNetError) console.log(outcome.code, outcome.detail);
  const { data, shape: [h, w, c] } = await net.activation('inception_4b/3x3');
  const value: number | undefined = data[h * w * c - 1];
  await net.draw(canvas, { layer: 'inception_4b/3x3', channels: [0, 1], colormap: 'diverging', range: [-1, 1] });
  const features: Float32Array = await net.features(file);
  const { mean, zeros } = await net.stats('inception_4b/3x3');
  const most: Float32Array = mean.length > 0 ? mean : zeros;
  const [top, left]: [number, number] = layers[0]!.start;
  const { branches } = await net.cam(0);
  const { logit } = await net.contributions(0);
  const { untouched } = await net.ablate({ 'inception_3a/1x1': 0 });
  const off = net.on('devicelost', ({ message, info }) => console.log(message, info.backend));
  off();
  console.log(backend, layers.length, value, features.length, branches.length, logit, untouched.length, most, top, left, net.summary());
  // @ts-expect-error: there is no such backend
  await GoogLeNet.load({ backend: 'cuda' });
  // @ts-expect-error: there is no such source
  await net.classify(42);
  return answer.top[0]?.label;
}

const element: GoogLeNetClassifier = document.createElement('googlenet-classifier');
element.addEventListener('classify', (event) => console.log((event as ClassifierEvents['classify']).detail.top));
console.log(Engine.name);
`;

const STRICT = {
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable', 'DOM', 'DOM.Iterable'],
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noPropertyAccessFromIndexSignature: true,
  noImplicitOverride: true,
  verbatimModuleSyntax: true,
  // The package's declarations are checked too.
  skipLibCheck: false,
  types: [],
  noEmit: true,
};

describe('a strict TypeScript consumer', () => {
  let folder, remove;

  before(async () => {
    ({ folder, remove } = await project({ files: { 'main.ts': CONSUMER } }));
  });
  after(() => remove?.());

  for (const [module, moduleResolution] of [['ESNext', 'Bundler'], ['NodeNext', 'NodeNext']]) {
    test(`compiles with ${moduleResolution} resolution`, { timeout: 120_000 }, async () => {
      const options = Object.entries({ ...STRICT, module, moduleResolution });
      const args = options.flatMap(([name, value]) => (Array.isArray(value) && value.length === 0 ? [`--${name}`, ''] : [`--${name}`, String(value)]));
      const { stdout } = await tool(folder, 'tsc', ...args, 'main.ts').catch((failed) => failed);
      assert.equal(stdout, '');
    });
  }
});

// Runs in the browser: opens runtimes, compares their answers, and times them in turn.

import { OURS, OURS_GPU, SCALE } from './ours';
import * as peer from './peer';
import type { Net, Runtime, Step, Variant } from './runtime';

function other(framework: peer.Framework, name: string, of: string, on: peer.On, threads = 1): Runtime {
  const layout = framework === 'onnxruntime' ? 'chw' : 'hwc';
  const open = (variant: Variant) => peer.open(framework, variant, on, threads);
  return { name, package: of, threads, layout, size: 224, batch: 1, open };
}

const PEERS = [1, 2].flatMap((threads) => [
  other('onnxruntime', 'onnxruntime-web', 'onnxruntime-web', 'wasm', threads),
  other('tensorflow', 'tensorflow.js', '@tensorflow/tfjs-backend-wasm', 'wasm', threads),
  other('litert', 'litert.js', '@litertjs/core', 'wasm', threads),
]);

const PEERS_GPU = [
  other('onnxruntime', 'onnxruntime-web', 'onnxruntime-web', 'webgpu'),
  other('tensorflow', 'tensorflow.js', '@tensorflow/tfjs-backend-webgpu', 'webgpu'),
  other('litert', 'litert.js', '@litertjs/core', 'webgpu'),
];

/** Milliseconds between a runtime's turn and the next one's. */
const PAUSE = 150;
/** Runs of the limit's loop that do not count, and those before a run of a network, a tenth of which they take. */
const SLOWER = 20;
const LIMITS = 9;

/** By the name under which the driver asks for them. */
const GROUPS = {
  // Messages to a worker that answers at once: what every other row contains.
  nothing: [other('nothing', 'nothing', 'googlenet-web', 'wasm')],
  all: [...OURS, ...PEERS],
  ours: OURS,
  gpu: [...OURS_GPU, ...PEERS_GPU],
  scale: SCALE,
};
type Group = keyof typeof GROUPS;

/** The group that is measured, and its networks once they are open. */
let runtimes: Runtime[] = [];
const nets: Net[] = [];

/** Inputs by seed, layout and size: made before any clock runs. */
const inputs = new Map<string, Float32Array>();
/** Answers of the first runtime, which the others' are compared with. */
const answers = new Map<number, Float32Array>();

function choose(group: Group) {
  runtimes = GROUPS[group];
  return runtimes.map(({ name, package: of, threads, size, batch }) => ({ name, package: of, threads, size, batch }));
}

async function open(id: number, variant: Variant): Promise<void> {
  nets[id] = await runtimes[id]!.open(variant);
}

function close(id: number): void {
  nets[id]?.close();
  delete nets[id];
}

/** What opening takes, and the first run. */
async function opened(id: number, variant: Variant): Promise<{ load_ms: number; first_ms: number }> {
  input(runtimes[id]!, variant, 1);
  const start = performance.now();
  await open(id, variant);
  const ready = performance.now();
  await run(id, variant);
  return { load_ms: ready - start, first_ms: performance.now() - ready };
}

/** Milliseconds from opening a runtime to its first picture: a person takes at least as long to choose one. */
const CHOOSING = 1000;

/** Milliseconds of the first run of a runtime that was opened a while before, so many times. */
async function firsts(id: number, variant: Variant, count: number): Promise<number[]> {
  const values = input(runtimes[id]!, variant, 1);
  const times: number[] = [];
  for (let visit = 0; visit < count; visit++) {
    await open(id, variant);
    await new Promise((done) => setTimeout(done, CHOOSING));
    const start = performance.now();
    await nets[id]!.run(values);
    times.push(performance.now() - start);
    close(id);
  }
  return times;
}

async function run(id: number, variant: Variant, seed = 1): Promise<Float32Array> {
  return nets[id]!.run(input(runtimes[id]!, variant, seed));
}

/** Noise of the range that the network was trained on, or near it. */
function input({ layout, size, batch }: Runtime, variant: Variant, seed: number): Float32Array {
  const key = [variant, seed, layout, size, batch].join();
  const known = inputs.get(key);
  if (known) return known;
  const pixels = size * size;
  const values = new Float32Array(batch * pixels * 3);
  const range = variant === 'caffe' ? 240 : 2;
  let state = seed;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const at = layout === 'hwc' ? i : (i % 3) * pixels + Math.floor(i / 3);
    values[at] = (state / 2 ** 32 - 0.5) * range;
  }
  inputs.set(key, values);
  return values;
}

/**
 * How far a runtime's answer is from the first one's, as a part of its greatest probability; and how far its
 * answer to another input is, which must be seen to be another.
 */
async function compare(id: number, variant: Variant): Promise<{ away: number; control: number }> {
  const [answer, stranger] = [await run(id, variant, 1), await run(id, variant, 2)];
  if (id === 0) answers.set(0, answer);
  const expected = answers.get(0)!;
  return { away: distance(answer, expected), control: distance(stranger, expected) };
}

function distance(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity;
  const worst = actual.reduce((most, value, i) => {
    const away = Math.abs(value - expected[i]!);
    // NaN is infinitely far from anything.
    return Math.max(most, Number.isNaN(away) ? Infinity : away);
  }, 0);
  return worst / Math.max(...expected);
}

/** What the page's WebGPU adapter says of itself. */
async function adapter(): Promise<string> {
  const info = (await navigator.gpu?.requestAdapter())?.info;
  const said = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(' ');
  return info ? said || 'unnamed' : 'none';
}

/** Milliseconds of a runtime's runs: of those after a pause, and of those after another run. */
interface Times {
  rested: number[];
  steady: number[];
}

/**
 * Each round has a turn of each runtime that is open, and another is first each time: after a pause, in which threads that
 * wait for work come to rest and leave the cores to the next, a run, and then as many as are asked for, one after the other.
 */
async function rounds(variant: Variant, count: number, steady = 0): Promise<Times[]> {
  const times = runtimes.map((): Times => ({ rested: [], steady: [] }));
  for (let round = 0; round < count; round++) {
    for (let turn = 0; turn < runtimes.length; turn++) {
      const id = (turn + round) % runtimes.length;
      if (!nets[id]) continue;
      const values = input(runtimes[id]!, variant, 1);
      await new Promise((done) => setTimeout(done, PAUSE));
      for (let run = 0; run <= steady; run++) {
        const start = performance.now();
        await nets[id].run(values);
        times[id]![run ? 'steady' : 'rested'].push(performance.now() - start);
      }
    }
  }
  return times;
}

type Loop = (count: number) => number;

/** The loop of a module of `peak.mjs`. */
async function compiled(bytes: number[]): Promise<Loop> {
  const { instance } = await WebAssembly.instantiate(new Uint8Array(bytes));
  return instance.exports['run'] as Loop;
}

/** GFLOP/s of some of its turns, so many times. */
function rates(loop: Loop, flops: number, times: number): number[] {
  const count = 100_000;
  return Array.from({ length: times }, () => {
    const start = performance.now();
    loop(count);
    return (flops * count) / (performance.now() - start) / 1e6;
  });
}

/** GFLOP/s of a module of `peak.mjs`, without the first, which are of slower code. */
async function peak(bytes: number[], flops: number): Promise<number[]> {
  return rates(await compiled(bytes), flops, SLOWER + 40).slice(SLOWER);
}

/** What a visit to a page with this runtime alone costs, in milliseconds. */
async function visit(group: Group, id: number, variant: Variant) {
  choose(group);
  const making = performance.now();
  const values = input(runtimes[id]!, variant, 1);
  const opening = performance.now();
  await open(id, variant);
  const opened = performance.now();
  await nets[id]!.run(values);
  const answered = performance.now();
  const later: number[] = [];
  for (let run = 0; run < 5; run++) {
    const start = performance.now();
    await nets[id]!.run(values);
    later.push(performance.now() - start);
  }
  // The clock starts with the navigation; making the input is none of the runtime's.
  return {
    load: opened - opening,
    first: answered - opened,
    start: answered - (opening - making),
    later: Math.min(...later),
  };
}

/** Multiply-adds of a run of ours. */
async function macs(id: number): Promise<number> {
  return ((await nets[id]!.macs?.()) ?? 0) * runtimes[id]!.batch;
}

/**
 * What each step of a runtime takes, run by run, where it can tell; and the machine's limit before each run, in GFLOP/s:
 * what else a shared machine does holds back both.
 */
async function steps(id: number, variant: Variant, runs: number, bytes: number[], flops: number) {
  const net = nets[id]!;
  if (!net.steps) return undefined;
  const values = input(runtimes[id]!, variant, 1);
  const loop = await compiled(bytes);
  const seen: { limits: number[]; steps: Step[] }[] = [];
  rates(loop, flops, SLOWER);
  for (let run = 0; run < runs; run++) {
    seen.push({ limits: rates(loop, flops, LIMITS), steps: await net.steps(values) });
  }
  return seen;
}

const asked = new URLSearchParams(location.search);
const visited = asked.has('visit')
  ? visit(asked.get('group') as Group, Number(asked.get('visit')), asked.get('variant') as Variant)
  : undefined;

Object.assign(window, { bench: { adapter, choose, close, open, opened, firsts, compare, rounds, peak, macs, steps, visited } });

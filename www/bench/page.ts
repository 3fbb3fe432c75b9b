// Runs in the browser: opens runtimes, compares their answers, and times them in turn.

import { OURS, OURS_GPU, SCALE } from './ours';
import * as peer from './peer';
import type { Net, Runtime, Step, Variant } from './runtime';

/** A runtime that ours is compared with. */
interface Peer {
  framework: peer.Framework;
  name: string;
  /** The npm package whose version is reported. */
  package: string;
  on: peer.On;
  /** The number of threads. Default: 1. */
  threads?: number;
}

function other({ framework, name, package: npm, on, threads = 1 }: Peer): Runtime {
  const layout = framework === 'onnxruntime' ? 'chw' : 'hwc';
  const open = (variant: Variant) => peer.open(framework, variant, on, threads);
  return { name, package: npm, threads, layout, size: 224, batch: 1, open };
}

const PEERS = [1, 2].flatMap((threads) => [
  other({ framework: 'onnxruntime', name: 'onnxruntime-web', package: 'onnxruntime-web', on: 'wasm', threads }),
  other({ framework: 'tensorflow', name: 'tensorflow.js', package: '@tensorflow/tfjs-backend-wasm', on: 'wasm', threads }),
  other({ framework: 'litert', name: 'litert.js', package: '@litertjs/core', on: 'wasm', threads }),
]);

const PEERS_GPU = [
  other({ framework: 'onnxruntime', name: 'onnxruntime-web', package: 'onnxruntime-web', on: 'webgpu' }),
  other({ framework: 'tensorflow', name: 'tensorflow.js', package: '@tensorflow/tfjs-backend-webgpu', on: 'webgpu' }),
  other({ framework: 'litert', name: 'litert.js', package: '@litertjs/core', on: 'webgpu' }),
];

/** The milliseconds between the turns of two runtimes. */
const PAUSE = 150;
/**
 * The runs of the limit's loop that are not counted, and those before a run of a network, of which they take a tenth.
 */
const SLOWER = 20;
const LIMITS = 9;

/** The runtimes by the names under which the driver asks for them. */
const GROUPS = {
  // The time of messages to a worker that answers at once, which every other row includes.
  nothing: [other({ framework: 'nothing', name: 'nothing', package: 'googlenet-web', on: 'wasm' })],
  all: [...OURS, ...PEERS],
  ours: OURS,
  gpu: [...OURS_GPU, ...PEERS_GPU],
  scale: SCALE,
};
type Group = keyof typeof GROUPS;

/** The group that is measured, and its networks once they are open. */
let runtimes: Runtime[] = [];
const nets: Net[] = [];

/** The inputs by seed, layout and size, which are made before any clock runs. */
const inputs = new Map<string, Float32Array>();
/** The answers of the first runtime, with which the others are compared. */
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

/** The times of opening a runtime, and of its first run. */
async function opened(id: number, variant: Variant): Promise<{ load_ms: number; first_ms: number }> {
  input(runtimes[id]!, variant, 1);
  const start = performance.now();
  await open(id, variant);
  const ready = performance.now();
  await run(id, variant);
  return { load_ms: ready - start, first_ms: performance.now() - ready };
}

/** The milliseconds from opening a runtime to its first picture: a user takes at least as long to choose one. */
const CHOOSING = 1000;

/** Measures the first run of a runtime that was opened a while before, several times, in milliseconds. */
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

/** Returns noise in the range on which the network was trained, or near it. */
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
 * Returns the greatest difference between a runtime's answer and that of the first runtime, as a part of its greatest
 * probability; and, as a negative control, the difference between its answers for two inputs.
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
    // The distance of NaN from anything is infinite.
    return Math.max(most, Number.isNaN(away) ? Infinity : away);
  }, 0);
  return worst / Math.max(...expected);
}

/** Returns the properties of the page's WebGPU adapter. */
async function adapter(): Promise<string> {
  const info = (await navigator.gpu?.requestAdapter())?.info;
  const said = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(' ');
  return info ? said || 'unnamed' : 'none';
}

/** The milliseconds of a runtime's runs: of those after a pause, and of those after another run. */
interface Times {
  rested: number[];
  steady: number[];
}

/**
 * Runs rounds, in which each open runtime has a turn; each round begins with another runtime. A turn is a pause, in
 * which threads that wait for work go to sleep and leave the cores to the next runtime, a run, and then the given
 * number of runs one after the other.
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

/** Loads the loop of a module of `peak.mjs`. */
async function compiled(bytes: number[]): Promise<Loop> {
  const { instance } = await WebAssembly.instantiate(new Uint8Array(bytes));
  return instance.exports['run'] as Loop;
}

/** Measures the GFLOP/s of some turns of the loop, several times. */
function rates(loop: Loop, flops: number, times: number): number[] {
  const count = 100_000;
  return Array.from({ length: times }, () => {
    const start = performance.now();
    loop(count);
    return (flops * count) / (performance.now() - start) / 1e6;
  });
}

/** Measures the GFLOP/s of a module of `peak.mjs`, without the first turns, whose code is slower. */
async function peak(bytes: number[], flops: number): Promise<number[]> {
  return rates(await compiled(bytes), flops, SLOWER + 40).slice(SLOWER);
}

/** Measures a visit to a page with this runtime alone, in milliseconds. */
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
  // The clock starts with the navigation; the time to make the input is not the runtime's.
  return {
    load: opened - opening,
    first: answered - opened,
    start: answered - (opening - making),
    later: Math.min(...later),
  };
}

/** Returns the multiply-adds of a run of our engine. */
async function macs(id: number): Promise<number> {
  return ((await nets[id]!.macs?.()) ?? 0) * runtimes[id]!.batch;
}

/**
 * Measures each step of a runtime, run by run, where it times its steps; and the machine's limit before each run, in
 * GFLOP/s. Other work on a shared machine lowers both.
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

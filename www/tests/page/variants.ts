// Runs in the browser: the engine in each of its builds, and the team of threads alone.

import { GoogLeNet, type GoogLeNetError, type Info, type LoadOptions, type StepTime } from '../../package/index.js';
import type { Exercise, Report, Shared } from './team-worker';

interface Run {
  info: Info;
  /** The probability of every class. */
  probabilities: number[];
  /** The steps of a run before timing was asked for, and of the run after that. */
  profiles: [StepTime[], StepTime[]];
}

let net: GoogLeNet | undefined;

async function open(options: LoadOptions): Promise<Info> {
  net?.free();
  net = await GoogLeNet.load(options);
  return net.info;
}

function close(): void {
  net?.free();
}

/** Classifies a picture twice, the second time with timing. */
async function run(options: LoadOptions, picture: string): Promise<Run> {
  const info = await open(options);
  const blob = await (await fetch(picture)).blob();
  const classify = () => net!.classify(blob, { top: info.classes });
  await classify();
  const before = await net!.profile();
  const { top } = await classify();
  const probabilities = new Array<number>(info.classes).fill(0);
  for (const { index, probability } of top) probabilities[index] = probability;
  return { info, probabilities, profiles: [before, await net!.profile(false)] };
}

/** Returns the milliseconds from the start of loading to the first answer. */
async function fresh(options: LoadOptions, picture: string): Promise<{ backend: string; ms: number }> {
  const blob = await (await fetch(picture)).blob();
  const since = performance.now();
  const { backend } = await open(options);
  await net!.classify(blob);
  return { backend, ms: performance.now() - since };
}

async function move(backend: 'cpu' | 'gpu'): Promise<Info> {
  return net!.move(backend);
}

/** Returns the code of the error with which loading fails. */
async function refusal(options: LoadOptions): Promise<string> {
  try {
    await open(options);
    return 'none';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** The results of a network whose GPU is lost repeatedly. */
interface Faults {
  /** The most probable class of each run. */
  answers: string[];
  /** The number of `devicelost` events. */
  told: number;
  backends: string[];
  rejections: number;
}

/** Classifies a picture repeatedly on the calling thread, and destroys the GPU's device meanwhile. */
async function faults(options: LoadOptions, picture: string, times: number): Promise<Faults> {
  const devices: GPUDevice[] = [];
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    devices.push(device);
    return device;
  };
  let rejections = 0;
  const count = () => void rejections++;
  addEventListener('unhandledrejection', count);
  const result: Faults = { answers: [], told: 0, backends: [], rejections: 0 };
  const blob = await (await fetch(picture)).blob();
  const destroy = () => devices.splice(0).forEach((device) => device.destroy());
  try {
    await open({ ...options, worker: false });
    net!.on('devicelost', ({ info }) => {
      result.told++;
      result.backends.push(info.backend);
    });
    // The first run compiles shaders, and can take ten times as long as the others.
    await net!.classify(blob);
    const since = performance.now();
    await net!.classify(blob);
    const usual = performance.now() - since;
    for (let at = 0; at < times; at++) {
      // Every fifth time the device is lost while the engine moves to a new one; otherwise during a run, or between
      // two.
      const moving = at % 5 === 4;
      const destroyed = new Promise<void>((resolve) => {
        setTimeout(() => {
          destroy();
          resolve();
        }, Math.random() * usual * 1.2);
      });
      if (moving) await net!.move('gpu');
      // Every second time two pictures are in progress.
      const both = Array.from({ length: 1 + (at % 2) }, () => net!.classify(blob));
      const labels = (await Promise.all(both)).map(({ top: [first] }) => first!.label);
      await destroyed;
      result.answers.push([...new Set(labels)].join());
      if (net!.info.backend === 'wasm') await net!.move('gpu');
    }
    // After a loss, work that builds on the last picture is also right.
    const before = (await net!.activation('inception_4a/output')).data;
    destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const after = (await net!.activation('inception_4a/output')).data;
    if (before.some((value, i) => Math.abs(value - after[i]!) > 1e-3 * (1 + Math.abs(value)))) result.answers.push('other activations');
  } finally {
    GPUAdapter.prototype.requestDevice = requestDevice;
    removeEventListener('unhandledrejection', count);
  }
  return { ...result, rejections };
}

/** Loads a model whose second half comes only when weights of the first half are on the GPU. */
async function streamed(options: LoadOptions, picture: string): Promise<{ label: string; before: number; after: number }> {
  const { fetch: real } = globalThis;
  const { writeBuffer, writeTexture } = GPUQueue.prototype;
  let written = 0;
  GPUQueue.prototype.writeBuffer = function (buffer, offset, data, from, size) {
    written += size ?? data.byteLength;
    return writeBuffer.call(this, buffer, offset, data as BufferSource, from, size);
  };
  // A software adapter has most weights in textures.
  GPUQueue.prototype.writeTexture = function (to, data, layout, size) {
    written += data.byteLength;
    return writeTexture.call(this, to, data as BufferSource, layout, size);
  };
  const file = new Uint8Array(await (await real(options.model as string)).arrayBuffer());
  const half = file.length >> 1;
  let before = 0;
  const stream = async function* () {
    yield file.slice(0, half);
    while (written < half / 2) await new Promise((resolve) => setTimeout(resolve, 10));
    before = written;
    yield file.slice(half);
  };
  globalThis.fetch = async (...args) => {
    if (!String(args[0]).endsWith('.safetensors')) return real(...args);
    const parts = stream();
    const body = new ReadableStream({
      pull: async (controller) => {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    return new Response(body, { headers: { 'content-length': String(file.length) } });
  };
  try {
    await open({ ...options, worker: false });
    const label = (await net!.classify(await (await real(picture)).blob())).top[0]!.label;
    return { label, before, after: written };
  } finally {
    globalThis.fetch = real;
    Object.assign(GPUQueue.prototype, { writeBuffer, writeTexture });
  }
}

/** The answers for several pictures. */
interface Overlap {
  /** The most probable classes of the pictures one by one, and all at once. */
  alone: string[];
  together: string[];
  /** The greatest number of pictures on the GPU at a time. */
  most: number;
  /** The number of buffers that were created while the pictures came all at once. */
  buffers: number;
}

async function overlap(options: LoadOptions, pictures: string[]): Promise<Overlap> {
  const { mapAsync } = GPUBuffer.prototype;
  const { createBuffer } = GPUDevice.prototype;
  const blobs = await Promise.all(pictures.map(async (picture) => (await fetch(picture)).blob()));
  await open({ ...options, worker: false });
  const label = async (blob: Blob) => (await net!.classify(blob)).top[0]!.label;
  const alone: string[] = [];
  for (const blob of blobs) alone.push(await label(blob));
  let [under, most, buffers] = [0, 0, 0];
  GPUBuffer.prototype.mapAsync = function (...args) {
    most = Math.max(most, ++under);
    return mapAsync.apply(this, args).finally(() => under--);
  };
  GPUDevice.prototype.createBuffer = function (descriptor) {
    buffers++;
    return createBuffer.call(this, descriptor);
  };
  try {
    const together = await Promise.all(blobs.map(label));
    return { alone, together, most, buffers };
  } finally {
    GPUBuffer.prototype.mapAsync = mapAsync;
    GPUDevice.prototype.createBuffer = createBuffer;
  }
}

/** Destroys the device of each load after some milliseconds; returns the answers of the networks. */
async function lostAtLoad(options: LoadOptions, picture: string, after: number[]): Promise<{ label: string; backend: string }[]> {
  const { requestDevice } = GPUAdapter.prototype;
  const blob = await (await fetch(picture)).blob();
  const seen = [];
  try {
    for (const ms of after) {
      let first = true;
      GPUAdapter.prototype.requestDevice = async function (descriptor) {
        const device = await requestDevice.call(this, descriptor);
        if (first) setTimeout(() => device.destroy(), ms);
        first = false;
        return device;
      };
      await open({ ...options, worker: false });
      const { top } = await net!.classify(blob);
      seen.push({ label: top[0]!.label, backend: net!.info.backend });
    }
    return seen;
  } finally {
    GPUAdapter.prototype.requestDevice = requestDevice;
  }
}

/**
 * Causes a panic; returns the error of the call in progress, whether its network is closed, and the answers of others.
 */
async function panic(options: LoadOptions, picture: string): Promise<{ code: string; message: string; closed: boolean; after: string[] }> {
  const blob = await (await fetch(picture)).blob();
  const label = async (of: GoogLeNet) => (await of.classify(blob)).top[0]!.label;
  const { copyBufferToBuffer } = GPUCommandEncoder.prototype;
  const other = await GoogLeNet.load({ ...options, backend: 'cpu' });
  try {
    await open({ ...options, worker: false });
    // wgpu panics where a command is refused.
    GPUCommandEncoder.prototype.copyBufferToBuffer = () => {
      throw new Error('nothing is copied');
    };
    const { code, message } = await label(net!).then(() => ({ code: 'none', message: '' }), (error: GoogLeNetError) => error);
    GPUCommandEncoder.prototype.copyBufferToBuffer = copyBufferToBuffer;
    const closed = net!.closed;
    await open(options);
    return { code, message, closed, after: [await label(other), await label(net!)] };
  } finally {
    GPUCommandEncoder.prototype.copyBufferToBuffer = copyBufferToBuffer;
    other.free();
  }
}

/** Runs on a GPU that does not answer; returns the answer, the backend after that, and the event's message. */
async function hung(options: LoadOptions, picture: string): Promise<{ label: string; backend: string; message: string }> {
  const blob = await (await fetch(picture)).blob();
  await open({ ...options, worker: false });
  const { mapAsync } = GPUBuffer.prototype;
  const { setTimeout: real } = window;
  let message = '';
  net!.on('devicelost', (event) => (message = event.message));
  // Only the timeouts are shortened.
  window.setTimeout = ((what: () => void, ms: number) => real(what, ms >= 20_000 ? 2000 : ms)) as typeof setTimeout;
  GPUBuffer.prototype.mapAsync = () => new Promise(() => {});
  try {
    const { top: [first] } = await net!.classify(blob);
    return { label: first!.label, backend: net!.info.backend, message };
  } finally {
    window.setTimeout = real;
    GPUBuffer.prototype.mapAsync = mapAsync;
  }
}

/** Loads on a GPU that pretends to be hardware and computes nothing; returns what is used instead, and why. */
async function idle(options: LoadOptions): Promise<{ backend: string; reason: string; adapter: string }> {
  const { submit } = GPUQueue.prototype;
  const info = Object.getOwnPropertyDescriptors(GPUAdapterInfo.prototype);
  for (const name of ['vendor', 'architecture', 'device', 'description']) {
    Object.defineProperty(GPUAdapterInfo.prototype, name, { configurable: true, get: () => 'A GPU' });
  }
  Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { configurable: true, get: () => false });
  GPUQueue.prototype.submit = () => undefined;
  try {
    await open({ ...options, backend: 'auto', worker: false });
    return net!.info;
  } finally {
    GPUQueue.prototype.submit = submit;
    Object.defineProperties(GPUAdapterInfo.prototype, info);
  }
}

/** The results of drawing on the GPU. */
interface Tiles {
  /**
   * The number of readbacks while three sheets are drawn, for one layer's values, and while drawing without a canvas.
   */
  maps: [drawing: number, reading: number, without: number];
  /** The share of bytes that differ without a canvas, on the CPU, and for another picture. */
  differing: [without: number, cpu: number, other: number];
}

/** Draws sheets of a picture on the GPU, and on the CPU those of the same picture and of another. */
async function tiles(model: string, pictures: [string, string]): Promise<Tiles> {
  const { mapAsync } = GPUBuffer.prototype;
  let count = 0;
  GPUBuffer.prototype.mapAsync = function (...args) {
    count++;
    return mapAsync.apply(this, args);
  };
  const counted = async (what: () => Promise<unknown>) => {
    const before = count;
    await what();
    return count - before;
  };
  const sheets = async (canvases: OffscreenCanvas[]) => {
    await net!.draw(canvases[0]!, { layer: 'inception_3a/3x3', gap: 2 });
    await net!.draw(canvases[1]!, { layer: 'inception_4c/output', channels: [5, 300, 17], columns: 2, scale: 7, colormap: 'diverging', range: 'sheet' });
    await net!.draw(canvases[2]!, { layer: 'conv1/7x7_s2', colormap: 'grey', range: [0, 2] });
  };
  const drawn = async () => {
    const canvases = Array.from({ length: 3 }, () => new OffscreenCanvas(1, 1));
    const maps = await counted(() => sheets(canvases));
    return { maps, pixels: canvases.flatMap((canvas) => [...canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height).data]) };
  };
  const blobs = await Promise.all(pictures.map(async (picture) => (await fetch(picture)).blob()));
  const { transferToImageBitmap } = OffscreenCanvas.prototype;
  try {
    await open({ model, backend: 'gpu', heads: false, worker: false });
    await net!.classify(blobs[0]!);
    const gpu = await drawn();
    // The engines add in different orders, which may move a value to the next of the 256 colours.
    const differs = ({ pixels }: typeof gpu) => pixels.filter((value, at) => !(Math.abs(value - gpu.pixels[at]!) <= 8)).length / pixels.length;
    const reading = await counted(() => net!.activation('inception_3a/3x3'));
    OffscreenCanvas.prototype.transferToImageBitmap = () => {
      throw new Error('it cannot');
    };
    const without = await drawn();
    await open({ model, backend: 'cpu', heads: false });
    await net!.classify(blobs[0]!);
    const cpu = await drawn();
    await net!.classify(blobs[1]!);
    const other = await drawn();
    return { maps: [gpu.maps, reading, without.maps], differing: [differs(without), differs(cpu), differs(other)] };
  } finally {
    GPUBuffer.prototype.mapAsync = mapAsync;
    OffscreenCanvas.prototype.transferToImageBitmap = transferToImageBitmap;
  }
}

/** Resolves to a worker's next message. */
function heard<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.addEventListener('message', ({ data }) => resolve(data), { once: true });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    });
  });
}

/** Runs the exercise of a team of this many threads. */
async function team(exercise: Exercise): Promise<Report> {
  const worker = new Worker(new URL('./team-worker.ts', import.meta.url), { type: 'module' });
  const helpers = Array.from({ length: exercise.threads - 1 }, () => {
    return new Worker(new URL('./team-worker.ts', import.meta.url), { type: 'module', name: 'helper' });
  });
  try {
    worker.postMessage(exercise);
    const shared = await heard<Shared>(worker);
    const arrived = helpers.map((helper) => heard(helper));
    for (const helper of helpers) helper.postMessage(shared);
    await Promise.all(arrived);
    // The helpers do not end where a task throws.
    const left = exercise.failing === undefined ? helpers.map((helper) => heard(helper)) : [];
    const report = heard<Report>(worker);
    worker.postMessage('go');
    await Promise.all(left);
    return await report;
  } finally {
    for (const each of [worker, ...helpers]) each.terminate();
  }
}

Object.assign(window, { variants: { open, close, run, fresh, move, refusal, faults, streamed, overlap, lostAtLoad, panic, hung, idle, tiles, team } });

// Runs in the browser: gradients and steps of training, compared with TensorFlow's in double precision.

import type { Call, Request, Shared } from './learning-worker';
import { tensors } from './safetensors';

/** A learner in a worker of its own. */
class Remote {
  readonly #worker: Worker;
  readonly #helpers: Worker[];

  private constructor(worker: Worker, helpers: Worker[]) {
    this.#worker = worker;
    this.#helpers = helpers;
  }

  static async open(request: Request): Promise<Remote> {
    const start = (name: string) => new Worker(new URL('./learning-worker.ts', import.meta.url), { type: 'module', name });
    const worker = start('learner');
    const helpers = Array.from({ length: request.threads - 1 }, () => start('helper'));
    worker.postMessage(request);
    const shared = await heard<Shared>(worker);
    const arrived = helpers.map((helper) => heard(helper));
    for (const helper of helpers) helper.postMessage(shared);
    await Promise.all(arrived);
    worker.postMessage('go');
    await heard(worker);
    return new Remote(worker, helpers);
  }

  async call<T>(name: Call['name'], ...args: unknown[]): Promise<T> {
    this.#worker.postMessage({ name, args } satisfies Call);
    const { result, message, code } = await heard<{ result: T; message?: string; code?: string }>(this.#worker);
    if (message !== undefined) throw Object.assign(new Error(message), { code });
    return result;
  }

  close(): void {
    for (const each of [this.#worker, ...this.#helpers]) each.terminate();
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

interface Gradients {
  value: number;
  terms: number[];
  layer?: Float32Array;
  weights: Record<string, Float32Array>;
}

let learner: Remote | undefined;

async function open(request: Request): Promise<unknown> {
  learner?.close();
  learner = await Remote.open(request);
  return learner.call('info');
}

/** The loss of the network with its auxiliary heads. */
function loss(classes: number[]): string {
  return JSON.stringify({ loss: { classes, heads: [['loss3', 1], ['loss1', 0.3], ['loss2', 0.3]] } });
}

/** The relative error in L2 norm. */
function away(got: Float32Array, want: Float32Array): number {
  let error = 0;
  let norm = 0;
  want.forEach((value, i) => {
    error += ((got[i] ?? NaN) - value) ** 2;
    norm += value ** 2;
  });
  return Math.sqrt(error / norm);
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
}

/**
 * Compares the gradients of the four pictures in TensorFlow's file. Norms of the gradients of tensors are compared in
 * order of their size, because the file has other names.
 */
async function golden(file: string, classes: number[], norms: number[]) {
  const reference = await tensors(file);
  const [input, want] = [reference.get('input')!.data, reference.get('grad_input')!.data];
  const of = (values: Float32Array, what: string) => learner!.call<Gradients>('gradient', values, loss(classes), what);
  const { value, terms, weights } = await of(input, '"weights"');
  const found = Object.values(weights).map(norm).sort((a, b) => a - b);
  const { layer } = await of(input, '"input"');
  const per = input.length / classes.length;
  const pictures = classes.map((_, i) => away(layer!.subarray(i * per, (i + 1) * per), want.subarray(i * per, (i + 1) * per)));
  return {
    value,
    terms,
    tensors: found.length,
    worst: Math.max(...found.map((norm, i) => Math.abs(norm / (norms[i] ?? NaN) - 1))),
    pictures,
  };
}

/** Arbitrary pictures in the range of preprocessed values. */
function pictures(count: number, size: number): Float32Array {
  return Float32Array.from({ length: count * size * size * 3 }, (_, i) => ((i * 7919) % 251) / 125 - 1);
}

/** The losses of some steps of SGD, and the number of weights that differ from those of a second training. */
async function repeat(request: Request, size: number, steps: number) {
  const train = async () => {
    const { heads } = (await open(request)) as { heads: string[] };
    const [values, losses] = [pictures(2, size), [] as number[]];
    const objective = JSON.stringify({ loss: { classes: [0, 1], heads: heads.map((name) => [name, 1]) } });
    for (let step = 0; step < steps; step++) {
      const terms = await learner!.call<number[]>('accumulate', values, objective, '"weights"', step, 0, true);
      losses.push(terms.reduce((sum, term) => sum + term, 0));
      await learner!.call('update', JSON.stringify({ rate: 0.001, step }));
    }
    return { losses, weights: await learner!.call<Record<string, Float32Array>>('weights') };
  };
  const [first, second] = [await train(), await train()];
  const same = (a: Float32Array, b?: Float32Array) => a.every((v, i) => Object.is(v, b?.[i]));
  const differ = Object.entries(first.weights).flatMap(([name, weights]) => (same(weights, second.weights[name]) ? [] : [name]));
  return { losses: first.losses, differ };
}

/** The milliseconds of training steps of this many pictures. */
async function time(request: Request, count: number, rounds: number) {
  const info = (await open(request)) as { size: number; heads: string[]; threads: number; adapter: string };
  const objective = JSON.stringify({
    loss: { classes: Array(count).fill(0), heads: info.heads.map((name) => [name, name === 'loss3' ? 1 : 0.3]) },
  });
  return { info, times: await learner!.call('time', pictures(count, info.size), objective, rounds) };
}

/** The error of a call, with its code. */
async function refusal(name: Call['name'], ...args: unknown[]) {
  try {
    await learner!.call(name, ...args);
    return undefined;
  } catch (error) {
    return { message: (error as Error).message, code: (error as { code?: string }).code };
  }
}

Object.assign(window, { learning: { open, golden, repeat, time, refusal } });

// Runs in the browser: the engine in each of its builds, and the team of threads alone.

import { GoogLeNet, type Info, type LoadOptions, type StepTime } from '../../src/index.js';
import type { Exercise, Report, Shared } from './team-worker';

interface Run {
  info: Info;
  /** Of every class. */
  probabilities: number[];
  /** Before anyone asked, and of the run after. */
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

/** Names a picture twice, the second time timed. */
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

async function move(backend: 'cpu' | 'gpu'): Promise<Info> {
  return net!.move(backend);
}

/** The code of the error that loading ends with. */
async function refusal(options: LoadOptions): Promise<string> {
  try {
    await open(options);
    return 'none';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** What a worker says next. */
function heard<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.addEventListener('message', ({ data }) => resolve(data), { once: true });
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    });
  });
}

/** Exercises a team of this many threads. */
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
    // Where a task throws, they do not leave.
    const left = exercise.failing === undefined ? helpers.map((helper) => heard(helper)) : [];
    const report = heard<Report>(worker);
    worker.postMessage('go');
    await Promise.all(left);
    return await report;
  } finally {
    for (const each of [worker, ...helpers]) each.terminate();
  }
}

Object.assign(window, { variants: { open, close, run, move, refusal, team } });

// The page: takes files, keeps one network, shows its answer.

import { GoogLeNet, GoogLeNetError, type Answer, type Backend } from 'googlenet-web';
import * as alert from './alert';
import * as answer from './answer';
import { byId } from './dom';
import * as engine from './engine';
import * as film from './film';
import * as habits from './habits';
import * as inside from './inside';
import * as loading from './loading';
import { NO_MODEL, brought, isModel, served, type Entry } from './models';
import * as offline from './offline';
import * as prepare from './prepare';
import * as samples from './samples';
import * as sources from './sources';
import * as webcam from './webcam';

const preview = byId('preview', HTMLImageElement);
const empty = byId('empty', HTMLElement);
const noModel = byId('no-model', HTMLElement);

/** Milliseconds after which the server is asked whether a model that it is getting has come. */
const LATER = 5000;

let models: Entry[] = [];
/** The model in use or on its way, and what it was asked to run on. */
let model: Entry | undefined;
let backend: Backend = 'auto';
let net: GoogLeNet | undefined;
/** The picture to look at, and the last one that could be read. */
let picture: File | undefined;
let readable: File | undefined;
/** Counts pictures and networks: an answer to anything but the latest is not shown. */
let turn = 0;
/** Networks are loaded one after the other. */
let queue = Promise.resolve();

/** Takes what came together: a model, a picture, or several. */
function take(files: File[]): void {
  alert.clear();
  const brings = files.find(isModel);
  if (brings) use(brought(brings));
  const pictures = files.filter((file) => !isModel(file));
  webcam.off();
  if (pictures.length > 1) void lookAtAll(pictures);
  else if (pictures[0]) {
    film.clear();
    look(pictures[0]);
  }
}

/** Shows a picture, or none, in the stage. */
function display(file: File | undefined): void {
  if (preview.src) URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute('src');
  preview.hidden = !file;
  empty.hidden = Boolean(file);
  film.mark(file);
}

/** Shows a picture and asks the network about it, now or as soon as there is one. */
function look(file: File): void {
  picture = file;
  display(file);
  void classify();
}

/** Looks at several pictures, then shows the first of them. */
async function lookAtAll(files: File[]): Promise<void> {
  const mine = ++turn;
  // A network that is on its way is waited for.
  await queue;
  if (!net) return look(files[0]!);
  inside.hide();
  const first = await film.run(files, (file) => net!.classify(file, { top: answer.TOP })) ?? readable;
  // What came meanwhile stays.
  if (first && mine === turn) look(first);
}

/** Everything the model knows, ranked: the page shows the first, and finds the others. */
function ask(of: GoogLeNet, source: File | HTMLCanvasElement): Promise<Answer> {
  return of.classify(source, { top: of.info.classes });
}

async function classify(): Promise<void> {
  const mine = ++turn;
  if (!net || !picture) return;
  answer.busy(true);
  inside.leave();
  try {
    const result = await ask(net, picture);
    if (mine !== turn) return;
    readable = picture;
    answer.show(result);
    inside.seen(net, picture, result);
  } catch (error) {
    if (mine !== turn) return;
    answer.busy(false);
    alert.complain(error);
    if (error instanceof GoogLeNetError && error.code === 'image' && picture !== readable) {
      // What was there before stays, also in the network, which may have run others meanwhile.
      picture = readable;
      display(picture);
      if (!net.closed) void classify();
    }
    startAfresh();
  }
}

/** After a fault of the engine's: without the picture that brought it about. */
function startAfresh(): void {
  if (!net?.closed || !model) return;
  picture = readable = undefined;
  display(undefined);
  answer.blank();
  inside.hide();
  use(model);
}

/** A frame of the webcam. */
async function watch(frame: HTMLCanvasElement): Promise<void> {
  await queue;
  if (!net) return;
  const mine = ++turn;
  empty.hidden = preview.hidden = true;
  const result = await ask(net, frame);
  if (mine !== turn) return;
  answer.show(result, true);
  await inside.live(net, frame, result);
}

/** Loads a model; the one in use stays until the new one is ready, and if it never is. */
function use(entry: Entry): void {
  change(
    async () => {
      const next = await load(entry, backend, loading.progress).catch((error: unknown) => {
        if (!prepare.needed(error)) throw error;
        const words = `Another framework wrote ${entry.name}, which does not say how pictures were prepared for its network`;
        alert.ask(words, (imported) => use({ ...entry, imported }));
      });
      if (!next) return;
      net?.free();
      net = next;
      model = entry;
      if (!models.some(({ id }) => id === entry.id)) models.push(entry);
      else models = models.map((known) => (known.id === entry.id ? entry : known));
      next.on('devicelost', ({ message, info }) => {
        alert.complain(new Error(`The GPU was lost (${message}). It goes on, on the ${info.backend === 'webgpu' ? 'GPU' : 'CPU'}`));
        if (net !== next) return;
        engine.describe(info);
        keepFiles(next);
      });
    },
    () => use(entry),
  );
}

function load(entry: Entry, on: Backend, onProgress?: typeof loading.progress): Promise<GoogLeNet> {
  return GoogLeNet.load({ model: entry.source, imported: entry.imported, heads: engine.withHeads(), ablation: true, backend: on, onProgress });
}

/** The same model on the other engine, to compare the two. */
function another(): Promise<GoogLeNet> {
  if (!net || !model) throw new Error('there is no network yet');
  return load(model, net.info.backend === 'webgpu' ? 'cpu' : 'gpu');
}

/** Moves the network to another backend, or stays where it is. */
function move(to: Backend): void {
  alert.clear();
  change(async () => {
    const from = backend;
    backend = to;
    try {
      await net?.move(to, { onProgress: loading.progress });
    } catch (error) {
      backend = from;
      throw error;
    }
  });
}

/** Changes the network, one change at a time, and looks at the picture again. */
function change(how: () => Promise<void>, again?: () => void): void {
  queue = queue.then(async () => {
    noModel.hidden = true;
    try {
      await how();
      if (net) {
        engine.describe(net.info);
        answer.knows(net.info.labels);
        samples.offer(net.info.labels);
        keepFiles(net);
      }
      if (!webcam.on()) void classify();
    } catch (error) {
      const passes = error instanceof GoogLeNetError && /^(download|integrity)$/.test(error.code);
      alert.complain(error, passes ? again : undefined);
    }
    loading.done();
    engine.choose(backend);
    engine.offer(models, model?.id);
    sayWhetherThereIsAModel();
  });
}

/** Keeps the engine's files for a visit without a network. Where the browser keeps nothing there is nothing to say. */
function keepFiles({ info }: GoogLeNet): void {
  offline.keep(info.files).catch(() => {});
}

/** Offers a model that the server gets while the page is open. */
function offerLater(): void {
  setTimeout(async () => {
    const now = await served().catch(() => undefined);
    const fresh = now?.models.filter(({ id }) => !models.some((known) => known.id === id)) ?? [];
    models.push(...fresh);
    if (fresh.length > 0) engine.offer(models, model?.id);
    // A server that does not answer may be started again.
    if (now?.expected ?? true) offerLater();
  }, LATER);
}

function sayWhetherThereIsAModel(): void {
  noModel.hidden = net !== undefined;
  noModel.textContent = net ? '' : NO_MODEL;
}

async function start(): Promise<void> {
  answer.blank();
  habits.theme();
  habits.keys(inside.key);
  inside.listen({ answered: answer.show, complain: alert.complain, another });
  answer.listen(inside.ask);
  prepare.listen();
  film.listen(look);
  webcam.listen(watch, (last) => (last ? look(last) : display(picture)), alert.complain);
  engine.listen(
    move,
    (id) => {
      const entry = models.find((known) => known.id === id);
      alert.clear();
      if (entry) use(entry);
    },
    () => model && use(model),
  );
  const wanted = new URLSearchParams(location.search);
  engine.choose(wanted.get('backend') as Backend | null ?? 'auto');
  backend = engine.chosen();
  const index = await served().catch(() => ({ models: [], expected: false }));
  models = index.models;
  if (index.expected) offerLater();
  const first = models.find(({ id }) => id === wanted.get('model')) ?? models[0];
  if (first) use(first);
  else sayWhetherThereIsAModel();
  sources.listen(take, alert.complain);
}

void start();

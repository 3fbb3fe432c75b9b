// The page: takes files, keeps one network, shows its answer.

import { GoogLeNet, GoogLeNetError, type Backend } from 'googlenet-web';
import * as alert from './alert';
import * as answer from './answer';
import { byId } from './dom';
import * as engine from './engine';
import * as inside from './inside';
import * as loading from './loading';
import { NO_MODEL, brought, isModel, served, type Entry } from './models';
import * as sources from './sources';

const preview = byId('preview', HTMLImageElement);
const empty = byId('empty', HTMLElement);
const noModel = byId('no-model', HTMLElement);

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

function take(file: File): void {
  alert.clear();
  if (isModel(file)) use(brought(file));
  else look(file);
}

/** Shows a picture, or none, in the stage. */
function display(file: File | undefined): void {
  if (preview.src) URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute('src');
  preview.hidden = !file;
  empty.hidden = Boolean(file);
}

/** Shows a picture and asks the network about it, now or as soon as there is one. */
function look(file: File): void {
  picture = file;
  display(file);
  void classify();
}

async function classify(): Promise<void> {
  const mine = ++turn;
  if (!net || !picture) return;
  answer.busy(true);
  try {
    const result = await net.classify(picture, { top: answer.TOP });
    if (mine !== turn) return;
    readable = picture;
    answer.show(result);
    inside.seen(net, picture, result);
  } catch (error) {
    if (mine !== turn) return;
    answer.busy(false);
    alert.complain(error);
    if (error instanceof GoogLeNetError && error.code === 'image') {
      // What was there before stays.
      picture = readable;
      display(picture);
    }
    if (net.closed && model) {
      // A fault of the engine's: start afresh, without the picture that brought it about.
      picture = readable = undefined;
      display(undefined);
      answer.blank();
      inside.hide();
      use(model);
    }
  }
}

/** Loads a model; the one in use stays until the new one is ready, and if it never is. */
function use(entry: Entry): void {
  change(async () => {
    // The page shows the network's own answer only.
    const next = await GoogLeNet.load({ model: entry.source, heads: false, backend, onProgress: loading.progress });
    net?.free();
    net = next;
    model = entry;
    if (!models.some(({ id }) => id === entry.id)) models.push(entry);
    else models = models.map((known) => (known.id === entry.id ? entry : known));
  });
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
function change(how: () => Promise<void>): void {
  queue = queue.then(async () => {
    noModel.hidden = true;
    try {
      await how();
      if (net) {
        engine.describe(net.info);
        answer.knows(net.info.labels);
      }
      void classify();
    } catch (error) {
      alert.complain(error);
    }
    loading.done();
    engine.choose(backend);
    engine.offer(models, model?.id);
    sayWhetherThereIsAModel();
  });
}

function sayWhetherThereIsAModel(): void {
  noModel.hidden = net !== undefined;
  noModel.textContent = net ? '' : NO_MODEL;
}

async function start(): Promise<void> {
  answer.blank();
  sources.listen(take, alert.complain);
  inside.listen(answer.show, alert.complain);
  engine.listen(move, (id) => {
    const entry = models.find((known) => known.id === id);
    alert.clear();
    if (entry) use(entry);
  });
  const wanted = new URLSearchParams(location.search);
  engine.choose(wanted.get('backend') as Backend | null ?? 'auto');
  backend = engine.chosen();
  models = await served().catch(() => []);
  const first = models.find(({ id }) => id === wanted.get('model')) ?? models[0];
  if (first) use(first);
  else sayWhetherThereIsAModel();
}

void start();

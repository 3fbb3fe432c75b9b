// The page: it takes pictures and models, keeps one network, and shows its answers.

import { GoogLeNet, GoogLeNetError, type Answer, type Backend } from 'googlenet-web';
import * as alert from './alert';
import * as answer from './answer';
import { byId } from './dom';
import * as engine from './engine';
import * as filmstrip from './filmstrip';
import { engineName } from './format';
import * as inside from './inside';
import * as keys from './keys';
import * as loading from './loading';
import { NO_MODEL, fromFile, isModel, served, type Entry } from './models';
import * as offline from './offline';
import * as preprocessing from './preprocessing';
import * as samples from './samples';
import * as sources from './sources';
import * as theme from './theme';
import * as webcam from './webcam';

const preview = byId('preview', HTMLImageElement);
const empty = byId('empty', HTMLElement);
const noModel = byId('no-model', HTMLElement);

/** The milliseconds after which the server is asked again whether it has downloaded a model. */
const POLL_INTERVAL = 5000;

let models: Entry[] = [];
/** The model in use, and the backend that was chosen. */
let model: Entry | undefined;
let backend: Backend = 'auto';
let net: GoogLeNet | undefined;
/** The picture to classify, and the last one that could be read. */
let picture: File | undefined;
let readable: File | undefined;
/** Counts pictures and changes of the network. Only the answer for the latest one is shown. */
let turn = 0;
/** Resolves when all changes of the network so far are done. They are made one by one. */
let queue = Promise.resolve();

/** Takes the files of one action: a model, a picture, or several pictures. */
function take(files: File[]): void {
  alert.clear();
  const modelFile = files.find(isModel);
  if (modelFile) use(fromFile(modelFile));
  const pictures = files.filter((file) => !isModel(file));
  webcam.switchOff();
  if (pictures.length > 1) void showAll(pictures);
  else if (pictures[0]) {
    filmstrip.clear();
    show(pictures[0]);
  }
}

/** Displays a picture, or none. */
function display(file: File | undefined): void {
  if (preview.src) URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute('src');
  preview.hidden = !file;
  empty.hidden = Boolean(file);
  filmstrip.mark(file);
}

/** Displays a picture and classifies it, now or as soon as there is a network. */
function show(file: File): void {
  picture = file;
  display(file);
  void classify();
}

/** Classifies several pictures, then shows the first of them. */
async function showAll(files: File[]): Promise<void> {
  const mine = ++turn;
  await queue;
  if (!net) return show(files[0]!);
  inside.hide();
  const first = await filmstrip.run(files, (file) => net!.classify(file, { top: answer.TOP })) ?? readable;
  // A picture that has come meanwhile stays.
  if (first && mine === turn) show(first);
}

/** Returns the answer with all classes: the page shows the first ones, and searches the others. */
function answerFor(of: GoogLeNet, source: File | HTMLCanvasElement): Promise<Answer> {
  return of.classify(source, { top: of.info.classes });
}

async function classify(): Promise<void> {
  const mine = ++turn;
  if (!net || !picture) return;
  answer.busy(true);
  inside.leave();
  try {
    const result = await answerFor(net, picture);
    if (mine !== turn) return;
    readable = picture;
    answer.show(result);
    inside.show(net, picture, result);
  } catch (error) {
    if (mine !== turn) return;
    answer.busy(false);
    alert.complain(error);
    if (error instanceof GoogLeNetError && error.code === 'image' && picture !== readable) {
      // The picture before stays. The network may have run others meanwhile, and runs it again.
      picture = readable;
      display(picture);
      if (!net.closed) void classify();
    }
    restart();
  }
}

/** Loads the network again after a fatal error, without the picture that caused it. */
function restart(): void {
  if (!net?.closed || !model) return;
  picture = readable = undefined;
  display(undefined);
  answer.blank();
  inside.hide();
  use(model);
}

/** Classifies a frame of the webcam. */
async function showFrame(frame: HTMLCanvasElement): Promise<void> {
  await queue;
  if (!net) return;
  const mine = ++turn;
  empty.hidden = preview.hidden = true;
  const result = await answerFor(net, frame);
  if (mine !== turn) return;
  answer.show(result, true);
  await inside.showFrame(net, frame, result);
}

/** Loads a model. The one in use stays until the new one is ready, and where loading fails. */
function use(entry: Entry): void {
  change(
    async () => {
      const next = await load(entry, backend, loading.progress).catch((error: unknown) => {
        if (!preprocessing.isMissing(error)) throw error;
        const words = `Another framework wrote ${entry.name}, which does not say how pictures were prepared for its network`;
        alert.askPreprocessing(words, (imported) => use({ ...entry, imported }));
      });
      if (!next) return;
      net?.free();
      net = next;
      model = entry;
      if (!models.some(({ id }) => id === entry.id)) models.push(entry);
      else models = models.map((known) => (known.id === entry.id ? entry : known));
      next.on('devicelost', ({ message, info }) => {
        alert.complain(new Error(`The GPU was lost (${message}). The network now runs on the ${engineName(info)}`));
        if (net !== next) return;
        engine.describe(info);
        keepFiles(next);
      });
    },
    () => use(entry),
  );
}

/** Loads a model on a backend. */
function load(entry: Entry, on: Backend, onProgress?: typeof loading.progress): Promise<GoogLeNet> {
  return GoogLeNet.load({ model: entry.source, imported: entry.imported, heads: engine.withHeads(), ablation: true, backend: on, onProgress });
}

/** Loads the same model on the other engine, so that the two can be compared. */
function loadOnOther(): Promise<GoogLeNet> {
  if (!net || !model) throw new Error('there is no network yet');
  return load(model, engineName(net.info) === 'GPU' ? 'cpu' : 'gpu');
}

/** Moves the network to another backend. It stays where it is if that fails. */
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

/** Changes the network, after the changes before, and classifies the picture again. `retry` tries the change again. */
function change(how: () => Promise<void>, retry?: () => void): void {
  queue = queue.then(async () => {
    noModel.hidden = true;
    try {
      await how();
      if (net) {
        engine.describe(net.info);
        answer.listClasses(net.info.labels);
        samples.offer(net.info.labels);
        keepFiles(net);
      }
      if (!webcam.isOn()) void classify();
    } catch (error) {
      const isTemporary = error instanceof GoogLeNetError && /^(download|integrity)$/.test(error.code);
      alert.complain(error, isTemporary ? retry : undefined);
    }
    loading.done();
    engine.choose(backend);
    engine.offer(models, model?.id);
    showWhetherThereIsAModel();
  });
}

/** Keeps the engine's files for a visit without an internet connection. Where that fails, nothing is reported. */
function keepFiles({ info }: GoogLeNet): void {
  offline.keep(info.files).catch(() => {});
}

/** Offers a model that the server downloads while the page is open. */
function offerLater(): void {
  setTimeout(async () => {
    const now = await served().catch(() => undefined);
    const fresh = now?.models.filter(({ id }) => !models.some((known) => known.id === id)) ?? [];
    models.push(...fresh);
    if (fresh.length > 0) engine.offer(models, model?.id);
    // A server that does not answer may be started again later.
    if (now?.expected ?? true) offerLater();
  }, POLL_INTERVAL);
}

/** Says so where there is no model. */
function showWhetherThereIsAModel(): void {
  noModel.hidden = net !== undefined;
  noModel.textContent = net ? '' : NO_MODEL;
}

/** Starts the page: connects its parts, and loads the first model. */
async function start(): Promise<void> {
  answer.blank();
  theme.connect();
  keys.connect(inside.pressKey);
  inside.connect({ showAnswer: answer.show, complain: alert.complain, loadOnOther });
  answer.connect(inside.explain);
  preprocessing.connect();
  filmstrip.connect(show);
  webcam.connect({ onFrame: showFrame, onEnd: (last) => (last ? show(last) : display(picture)), onError: alert.complain });
  engine.connect({
    onBackend: move,
    onModel: (id) => {
      const entry = models.find((known) => known.id === id);
      alert.clear();
      if (entry) use(entry);
    },
    onHeads: () => model && use(model),
  });
  const wanted = new URLSearchParams(location.search);
  engine.choose(wanted.get('backend') as Backend | null ?? 'auto');
  backend = engine.chosen();
  const index = await served().catch(() => ({ models: [], expected: false }));
  models = index.models;
  if (index.expected) offerLater();
  const first = models.find(({ id }) => id === wanted.get('model')) ?? models[0];
  if (first) use(first);
  else showWhetherThereIsAModel();
  sources.connect(take, alert.complain);
}

void start();

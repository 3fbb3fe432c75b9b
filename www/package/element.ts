/**
 * `<googlenet-classifier>`, a custom element that classifies the picture that is dropped on it.
 *
 * @example
 * ```html
 * <script type="module" src="googlenet-web/dist/element.js"></script>
 * <googlenet-classifier inspect></googlenet-classifier>
 * ```
 *
 * @packageDocumentation
 */

import { GoogLeNet } from './api/client.js';
import { GoogLeNetError } from './api/errors.js';
import { toPicture } from './api/sources.js';
import type { Answer, Backend, Class, Crop, LoadOptions, Progress, Source } from './api/types.js';
import { Branches } from './element/branches.js';
import { describe, make } from './element/dom.js';
import { STYLE } from './element/style.js';
import { isPixels, toBitmap } from './worker/pixels.js';

/** The element's events. The result is in their `detail`. */
export interface ClassifierEvents {
  /** A picture was classified. The event bubbles. */
  classify: CustomEvent<Answer>;
  /** Loading has progressed. */
  progress: CustomEvent<Progress>;
  /** A picture could not be classified, or the network could not be loaded. */
  error: CustomEvent<GoogLeNetError>;
}

/** The shorter side of the picture as it is shown, in pixels; it is shown smaller where the picture is smaller. */
const MAX_SHOWN_SIDE = 720;

/** The greatest number of classes that are listed below the answer. */
const MAX_LISTED_CLASSES = 20;

// The file can be imported where there is no DOM, as in Node.
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/**
 * The custom element `<googlenet-classifier>`.
 *
 * Attributes: `model` (an address, or `cifar10`), `backend`, `threads`, `top`, `crop`, `wasm-url`, `model-url` and
 * `worker-url` are the options of {@link GoogLeNet.load} and {@link GoogLeNet.classify}. `src` is the address of a
 * picture. `inspect` shows the branches of an inception module. `lazy` downloads the network only with the first
 * picture.
 *
 * Parts: `frame`, `drop`, `hint`, `picture`, `answer`, `status`, `progress`, `list`, `class`, `name`, `share`, `track`,
 * `fill`, `branches`, `module`, `select`, `lanes`, `branch`, `caption`, `tiles`. Custom properties: `--googlenet-ink`,
 * `-soft`, `-paper`, `-line`, `-track`, `-accent`, `-alert`, `-radius`, `-font`.
 */
export class GoogLeNetClassifier extends Base {
  /** The attributes whose changes take effect. */
  static readonly observedAttributes = ['src', 'inspect', 'model', 'backend'];

  #net: Promise<GoogLeNet> | undefined;
  /** Counts the pictures. Only the answer for the last one is shown. */
  #turn = 0;

  readonly #input = make('input', '');
  readonly #picture = make('canvas', 'picture');
  readonly #hint: HTMLSpanElement = make('span', 'hint', make('b', '', 'Drop a photograph'), 'or press to choose one');
  readonly #drop = make('button', 'drop', this.#picture, this.#hint);
  readonly #status = make('p', 'status');
  /** The answer for screen readers. */
  readonly #announcement = make('p', 'said');
  readonly #bar = make('progress', 'progress');
  readonly #list = make('ol', 'list');
  readonly #branches = new Branches(() => void this.#inspect());

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    const root = this.attachShadow({ mode: 'open', delegatesFocus: true });
    root.adoptedStyleSheets = [sheet];
    const answer = make('section', 'answer', this.#list, this.#status, this.#bar, this.#announcement);
    root.append(make('div', 'frame', this.#drop, answer, this.#branches.view), this.#input);
    describe(this.#announcement, 'status');
    describe(this.#picture, 'img', 'The picture');
    describe(this.#bar, undefined, 'Loading the network');
    this.#picture.hidden = this.#bar.hidden = this.#input.hidden = true;
    this.#drop.type = 'button';
    Object.assign(this.#input, { type: 'file', accept: 'image/*' });
    this.#listen();
  }

  /** Starts to load. Called by the browser when the element is added to the page. */
  connectedCallback(): void {
    const { src } = this;
    if (src) void this.#attempt(() => this.classify(src));
    else if (!this.hasAttribute('lazy')) void this.#attempt(() => this.load());
  }

  /** Frees the network. Called by the browser when the element is removed from the page. */
  disconnectedCallback(): void {
    this.free();
  }

  /** Applies a change of an attribute. Called by the browser. */
  attributeChangedCallback(name: string, before: string | null, value: string | null): void {
    if (!this.isConnected || before === value) return;
    if (name === 'src' && value) void this.#attempt(() => this.classify(value));
    if (name === 'inspect') void this.#attempt(() => this.#inspect());
    if (name === 'model' || name === 'backend') {
      this.free();
      void this.#attempt(() => this.load());
    }
  }

  /** The address of the picture, from the attribute `src`; null where there is none. */
  get src(): string | null {
    return this.getAttribute('src');
  }

  /** Classifies the picture at another address. */
  set src(value: string | null) {
    if (value === null) this.removeAttribute('src');
    else this.setAttribute('src', value);
  }

  /** Whether the branches are shown, from the attribute `inspect`. */
  get inspect(): boolean {
    return this.hasAttribute('inspect');
  }

  /** Shows or hides the branches. */
  set inspect(value: boolean) {
    this.toggleAttribute('inspect', value);
  }

  /** Returns the element's network, which is loaded first if necessary. */
  load(): Promise<GoogLeNet> {
    if (!this.#net) {
      const loading = GoogLeNet.load(this.#options());
      this.#net = loading;
      loading.then(
        (net) => this.#loaded(loading, net),
        () => {
          // The next picture tries again.
          if (this.#net === loading) this.#net = undefined;
        },
      );
    }
    return this.#net;
  }

  /** Shows a picture and its answer. */
  async classify(source: Source): Promise<Answer> {
    const mine = ++this.#turn;
    this.#list.classList.add('busy');
    try {
      const bitmap = await decode(source);
      if (mine === this.#turn) this.#show(bitmap);
      const net = await this.load();
      const crop = (this.getAttribute('crop') ?? 'center') as Crop;
      const answer = await net.classify(bitmap, { top: Number(this.getAttribute('top') ?? 5), crop });
      if (mine === this.#turn) await this.#answer(net, answer);
      return answer;
    } finally {
      if (mine === this.#turn) this.#list.classList.remove('busy');
    }
  }

  /** Frees the network. Another one is loaded when it is needed. */
  free(): void {
    const net = this.#net;
    this.#net = undefined;
    net?.then((loaded) => loaded.free()).catch(() => {});
  }

  #options(): LoadOptions {
    const text = (name: string) => this.getAttribute(name) ?? undefined;
    const threads = text('threads');
    return {
      model: text('model') ?? 'cifar10',
      backend: (text('backend') ?? 'auto') as Backend,
      threads: threads === undefined ? undefined : Number(threads),
      heads: false,
      wasmUrl: text('wasm-url'),
      modelUrl: text('model-url'),
      workerUrl: text('worker-url'),
      onProgress: (progress) => this.#progress(progress),
    };
  }

  #loaded(loading: Promise<GoogLeNet>, net: GoogLeNet): void {
    // The element may have been freed meanwhile.
    if (this.#net !== loading) return net.free();
    this.#bar.hidden = true;
    if (this.#turn === 0) this.#say(`Ready.${classList(net.info.labels)}`);
  }

  #listen(): void {
    const take = (file: File | undefined) => {
      if (file) void this.#attempt(() => this.classify(file));
    };
    this.#drop.addEventListener('click', () => this.#input.click());
    this.#input.addEventListener('change', () => {
      take(this.#input.files?.[0]);
      // Otherwise choosing the same file again would fire no event.
      this.#input.value = '';
    });
    this.addEventListener('paste', (event) => take(event.clipboardData?.files[0]));
    const over = (is: boolean) => (event: DragEvent) => {
      event.preventDefault();
      this.#drop.classList.toggle('over', is);
    };
    this.addEventListener('dragover', over(true));
    this.addEventListener('dragleave', over(false));
    this.addEventListener('drop', over(false));
    this.addEventListener('drop', (event) => take(event.dataTransfer?.files[0]));
  }

  /** Runs an action of the user, and shows its error in the element. */
  async #attempt(what: () => Promise<unknown>): Promise<void> {
    try {
      await what();
    } catch (error) {
      // An error because the page has freed the network is not shown.
      if (!(error instanceof GoogLeNetError) || error.code === 'closed') return;
      this.#bar.hidden = true;
      this.#say(error.message, true);
      this.dispatchEvent(new CustomEvent('error', { detail: error }));
    }
  }

  #show(picture: ImageBitmap): void {
    const scale = Math.min(1, MAX_SHOWN_SIDE / Math.min(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale))) as [number, number];
    Object.assign(this.#picture, { width, height, hidden: false });
    this.#picture.getContext('2d')?.drawImage(picture, 0, 0, width, height);
    this.#hint.hidden = true;
    this.#drop.classList.add('full');
    describe(this.#drop, undefined, 'Choose another picture');
  }

  async #answer(net: GoogLeNet, answer: Answer): Promise<void> {
    this.#list.replaceChildren(...answer.top.map((best) => this.#line(best)));
    const ms = answer.ms.preprocess + answer.ms.run;
    const [first] = answer.top;
    this.#say(`Named in ${ms.toFixed(ms < 10 ? 1 : 0)} ms.${classList(net.info.labels)}`);
    this.#announcement.textContent = first ? `${first.label}, ${this.#percent(first.probability)}` : '';
    await this.#inspect();
    this.dispatchEvent(new CustomEvent('classify', { detail: answer, bubbles: true, composed: true }));
  }

  async #inspect(): Promise<void> {
    const net = this.inspect && this.#list.childElementCount > 0 ? await this.#net : undefined;
    if (net) await this.#branches.show(net);
    else this.#branches.view.hidden = true;
  }

  #line({ label, probability }: Class): HTMLLIElement {
    const fill = make('div', 'fill');
    fill.style.setProperty('--part', String(probability));
    const name = make('span', 'name', label);
    name.title = label;
    return make('li', 'class', name, make('span', 'share', this.#percent(probability)), make('div', 'track', fill));
  }

  #percent(share: number): string {
    return share.toLocaleString(this.lang || undefined, { style: 'percent', minimumFractionDigits: 1 });
  }

  #progress(progress: Progress): void {
    const { phase, loaded, total } = progress;
    this.#bar.hidden = phase === 'ready';
    if (phase === 'download' && total) this.#bar.value = loaded / total;
    else this.#bar.removeAttribute('value');
    if (phase !== 'ready') this.#say(phase === 'download' ? `Loading the network: ${(loaded / 1e6).toFixed(1)} MB` : 'Preparing the network');
    this.dispatchEvent(new CustomEvent('progress', { detail: progress }));
  }

  #say(text: string, bad = false): void {
    this.#status.textContent = text;
    this.#status.classList.toggle('bad', bad);
    if (bad) this.#announcement.textContent = text;
  }
}

/** Lists the classes of a model that has few, since people drop any picture. */
function classList(labels: string[]): string {
  return labels.length > MAX_LISTED_CLASSES ? '' : ` This model knows only ${labels.slice(0, -1).join(', ')} and ${labels.at(-1)}.`;
}

/** Decodes a picture to a bitmap, which is both shown and classified. */
async function decode(source: Source): Promise<ImageBitmap> {
  const picture = await toPicture(source);
  if (!isPixels(picture)) return toBitmap(picture);
  return createImageBitmap(new ImageData(new Uint8ClampedArray(picture.data), picture.width, picture.height));
}

declare global {
  interface HTMLElementTagNameMap {
    'googlenet-classifier': GoogLeNetClassifier;
  }
}

globalThis.customElements?.get('googlenet-classifier') ??
  globalThis.customElements?.define('googlenet-classifier', GoogLeNetClassifier);

// The filmstrip: several pictures with their answers, which can be saved as CSV.

import type { Answer } from 'googlenet-web';
import { html, render, type TemplateResult } from 'lit-html';
import { byId } from './dom';
import { names, percent } from './format';
import { save } from './inside/save';

/** A picture with its answer or its error. */
interface Frame {
  file: File;
  answer?: Answer;
  error?: string;
}

const box = byId('film', HTMLElement);
const strip = byId('strip', HTMLOListElement);
const bar = byId('film-bar', HTMLProgressElement);
const count = byId('film-count', HTMLElement);
const stop = byId('film-stop', HTMLButtonElement);
const csv = byId('film-csv', HTMLButtonElement);

/** The greatest number of pictures in the strip. The others are only in the CSV. */
const MAX_SHOWN = 300;
/** The number of classes in the CSV. */
const CSV_CLASSES = 5;

let frames: Frame[] = [];
/** The frames in the strip, with the addresses of their pictures. */
let thumbs: { frame: Frame; src: string }[] = [];
/** The picture that is shown enlarged. */
let large: File | undefined;
let running: AbortController | undefined;
let onChoice: (file: File) => void = () => {};

/** Connects the strip. `choose` is called with the picture that the user chooses. */
export function connect(choose: (file: File) => void): void {
  onChoice = choose;
  stop.addEventListener('click', () => running?.abort());
  csv.addEventListener('click', () => save(new Blob([table(frames)], { type: 'text/csv' }), 'googlenet.csv'));
}

/** Hides the strip, and ends its run. */
export function clear(): void {
  running?.abort();
  for (const { src } of thumbs) URL.revokeObjectURL(src);
  thumbs = [];
  draw();
  box.hidden = true;
}

/** Marks the picture that is shown enlarged. */
export function mark(file: File | undefined): void {
  large = file;
  draw();
}

/**
 * Classifies the pictures one by one, until all are done or the user stops. Resolves to the first that could be read.
 */
export async function run(files: File[], classify: (file: File) => Promise<Answer>): Promise<File | undefined> {
  clear();
  const mine = (running = new AbortController());
  frames = files.map((file) => ({ file }));
  thumbs = frames.slice(0, MAX_SHOWN).map((frame) => ({ frame, src: URL.createObjectURL(frame.file) }));
  draw();
  box.hidden = false;
  csv.hidden = true;
  stop.hidden = false;
  bar.hidden = false;
  bar.max = files.length;
  for (const [at, frame] of frames.entries()) {
    bar.value = at;
    count.textContent = `${at} of ${files.length}`;
    try {
      frame.answer = await classify(frame.file);
    } catch (error) {
      frame.error = error instanceof Error ? error.message : String(error);
    }
    if (mine.signal.aborted) break;
    draw();
  }
  if (running !== mine) return undefined;
  running = undefined;
  const done = frames.filter(({ answer }) => answer).length;
  const failed = frames.filter(({ error }) => error).length;
  count.textContent = `${done} of ${files.length} pictures${failed > 0 ? `, ${failed} unreadable` : ''}`;
  bar.hidden = true;
  stop.hidden = true;
  csv.hidden = false;
  return frames.find(({ answer }) => answer)?.file;
}

function draw(): void {
  render(thumbs.map(({ frame, src }) => thumb(frame, src)), strip);
}

function thumb({ file, answer, error }: Frame, src: string): TemplateResult {
  const [first] = answer?.top ?? [];
  const said = first ? `${names(first.label)[0]} ${percent(first.probability)}` : error && 'unreadable';
  return html`<li>
    <button
      type="button"
      title=${error ? `${file.name}: ${error}` : file.name}
      aria-label=${said ? `${file.name}: ${said}` : file.name}
      aria-pressed=${file === large}
      @click=${() => running || onChoice(file)}
    >
      <img alt="" loading="lazy" width="64" height="64" src=${src}><span class="soft">${said || '\u2026'}</span>
    </button>
  </li>`;
}

/** Returns comma-separated values (RFC 4180): a row for each picture with its most probable classes, or its error. */
export function table(all: Frame[]): string {
  const head = ['file', ...Array.from({ length: CSV_CLASSES }, (_, at) => [`class_${at + 1}`, `probability_${at + 1}`]).flat(), 'error'];
  const rows = all.map(({ file, answer, error }) => {
    const cells = Array.from({ length: CSV_CLASSES }, (_, at) => answer?.top[at]);
    const path = file.webkitRelativePath || file.name;
    return [path, ...cells.flatMap((one) => (one ? [one.label, one.probability.toPrecision(6)] : ['', ''])), error ?? ''];
  });
  return [head, ...rows].map((row) => row.map(quoted).join(',')).join('\r\n') + '\r\n';
}

function quoted(text: string): string {
  // A spreadsheet would evaluate a cell that begins like a formula.
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

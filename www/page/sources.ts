// The ways a picture comes to the page: dropped, picked, pasted, from an address, or a sample.

import { byId } from './dom';

const NOT_A_FILE = 'What was dropped is not a file. Save the picture first, then drop the file.';
const NO_PICTURE_COPIED = 'There is no picture in the clipboard. Copy one first, then paste.';

/** Where files were fetched that came from an address. */
const addresses = new WeakMap<File, string>();

type Take = (files: File[]) => void;
type Refuse = (why: unknown) => void;

/** Calls back with the files that come together, and with a sentence where something came that is none. */
export function listen(take: Take, refuse: Refuse): void {
  drops(take, refuse);
  pastes(take, refuse);
  picks(byId('file', HTMLInputElement), take);
  picks(byId('folder-file', HTMLInputElement), (files) => take(files.filter(({ type }) => type.startsWith('image/'))));
  byId('stage', HTMLElement).addEventListener('click', () => byId('file', HTMLInputElement).click());
  byId('folder', HTMLButtonElement).addEventListener('click', () => byId('folder-file', HTMLInputElement).click());

  const open = (address: string) => fetched(address).then((file) => take([file]), refuse);
  byId('samples', HTMLElement).addEventListener('click', ({ target }) => {
    const address = target instanceof Element ? target.closest<HTMLElement>('[data-sample]')?.dataset.sample : undefined;
    if (address) void open(address);
  });
  const form = byId('address-form', HTMLFormElement);
  const field = byId('address-field', HTMLInputElement);
  const toggle = byId('address', HTMLButtonElement);
  toggle.addEventListener('click', () => {
    form.hidden = !form.hidden;
    toggle.setAttribute('aria-expanded', String(!form.hidden));
    if (!form.hidden) field.focus();
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void open(field.value.trim());
  });

  const linked = new URLSearchParams(location.hash.slice(1)).get('picture');
  // Once everything listens.
  if (linked && (/^https?:/.test(linked) || /^samples\/[\w.-]+$/.test(linked))) setTimeout(() => void open(linked));
}

/** The address a picture came from, if it came from one. */
export function addressOf(picture: unknown): string | undefined {
  return picture instanceof File ? addresses.get(picture) : undefined;
}

/** Fetches a picture; what goes wrong is told in a sentence. */
export async function fetched(address: string): Promise<File> {
  if (!URL.canParse(address, document.baseURI)) throw new Error(`"${address}" is not an address`);
  const url = new URL(address, document.baseURI);
  let response: Response;
  try {
    response = await fetch(url, { credentials: 'omit', referrerPolicy: 'no-referrer' });
  } catch (cause) {
    const why = `The picture could not be fetched: ${url.host} cannot be reached, or does not let other pages read it (CORS). Save the picture, then drop the file.`;
    throw new Error(why, { cause });
  }
  if (!response.ok) throw new Error(`The picture could not be fetched: ${url.host} answered ${response.status}.`);
  const blob = await response.blob();
  if (!blob.type.startsWith('image/')) {
    throw new Error(`What is at ${url.host}${url.pathname} is not a picture but ${blob.type || 'of no known type'}.`);
  }
  const file = new File([blob], decodeURIComponent(url.pathname.replace(/.*\//, '')) || 'picture', { type: blob.type });
  addresses.set(file, address);
  return file;
}

function picks(picker: HTMLInputElement, take: Take): void {
  picker.addEventListener('change', () => {
    const files = [...(picker.files ?? [])];
    // So that the same file can be chosen again.
    picker.value = '';
    if (files.length > 0) take(files);
  });
}

function pastes(take: Take, refuse: Refuse): void {
  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
  byId('paste', HTMLButtonElement).addEventListener('click', async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith('image/'));
        if (type) return take([new File([await item.getType(type)], 'pasted', { type })]);
      }
      refuse(new Error(NO_PICTURE_COPIED));
    } catch (cause) {
      refuse(new Error('The browser does not let this page read the clipboard. Press Ctrl+V instead.', { cause }));
    }
  });
}

/** Anywhere on the window. */
function drops(take: Take, refuse: Refuse): void {
  const curtain = byId('curtain', HTMLElement);
  // Every element the pointer crosses fires enter and leave; the drag is over when they cancel out.
  let depth = 0;
  const show = (by: number) => {
    depth = by === 0 ? 0 : Math.max(0, depth + by);
    curtain.classList.toggle('down', depth > 0);
  };
  addEventListener('dragenter', (event) => {
    event.preventDefault();
    show(1);
  });
  addEventListener('dragleave', () => show(-1));
  addEventListener('dragover', (event) => {
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = 'copy';
  });
  addEventListener('drop', async (event) => {
    event.preventDefault();
    show(0);
    // Both must be read before the event ends.
    const files = [...(event.dataTransfer?.files ?? [])];
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
    const folders = entries.filter((entry) => entry?.isDirectory) as FileSystemDirectoryEntry[];
    if (folders.length === 0) return files.length > 0 ? take(files) : refuse(new Error(NOT_A_FILE));
    try {
      const inside = (await Promise.all(folders.map(filesIn))).flat();
      const names = new Set(folders.map(({ name }) => name));
      take([...files.filter(({ name }) => !names.has(name)), ...inside.filter(({ type }) => type.startsWith('image/'))]);
    } catch (cause) {
      refuse(new Error('The folder cannot be read.', { cause }));
    }
  });
}

/** All files in a folder and the folders in it. */
async function filesIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const found: File[] = [];
  // It gives a hundred or so at a time, and none at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return found;
    for (const entry of entries) {
      if (entry.isDirectory) found.push(...(await filesIn(entry as FileSystemDirectoryEntry)));
      else found.push(await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)));
    }
  }
}

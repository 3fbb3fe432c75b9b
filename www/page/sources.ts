// The sources of pictures: dropping, picking, pasting, an address, and the samples.

import { byId } from './dom';

const NOT_A_FILE = 'What was dropped is not a file. Save the picture first, then drop the file.';
const NO_PICTURE_COPIED = 'There is no picture in the clipboard. Copy one first, then paste.';

/** The addresses of files that were fetched. */
const addresses = new WeakMap<File, string>();

type Take = (files: File[]) => void;
type Refuse = (why: unknown) => void;

/** Connects the sources. `take` is called with the files of one action, and `refuse` with an error. */
export function connect(take: Take, refuse: Refuse): void {
  connectDrop(take, refuse);
  connectPaste(take, refuse);
  connectPicker(byId('file', HTMLInputElement), take);
  connectPicker(byId('folder-file', HTMLInputElement), (files) => take(files.filter(({ type }) => type.startsWith('image/'))));
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
  // All other parts of the page are connected by the time this runs.
  if (linked && (/^https?:/.test(linked) || /^samples\/[\w.-]+$/.test(linked))) setTimeout(() => void open(linked));
}

/** Returns the address that a picture was fetched from, if it was. */
export function addressOf(picture: unknown): string | undefined {
  return picture instanceof File ? addresses.get(picture) : undefined;
}

/** Fetches a picture. Throws an error whose message can be shown. */
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

/** Connects a file input. */
function connectPicker(picker: HTMLInputElement, take: Take): void {
  picker.addEventListener('change', () => {
    const files = [...(picker.files ?? [])];
    // Otherwise choosing the same file again would fire no event.
    picker.value = '';
    if (files.length > 0) take(files);
  });
}

/** Connects pasting, and the button for it. */
function connectPaste(take: Take, refuse: Refuse): void {
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

/** Connects dropping, anywhere on the window. */
function connectDrop(take: Take, refuse: Refuse): void {
  const curtain = byId('curtain', HTMLElement);
  // Each element under the pointer fires an enter and a leave event; the drag has left the window when they balance.
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
    // Both lists are empty once the event handler has returned.
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

/** Lists all files in a folder and its subfolders. */
async function filesIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const found: File[] = [];
  // The reader returns about a hundred entries at a time, and none at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return found;
    for (const entry of entries) {
      if (entry.isDirectory) found.push(...(await filesIn(entry as FileSystemDirectoryEntry)));
      else found.push(await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject)));
    }
  }
}

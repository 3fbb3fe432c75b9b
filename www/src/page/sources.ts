// The ways a file comes to the page: dropped, picked, pasted, or a sample.

import { byId } from './dom';

const NOT_A_FILE = 'What was dropped is not a file. Save the picture first, then drop the file.';

/** Calls back with every file that comes, and with a sentence where something came that is none. */
export function listen(take: (file: File) => void, refuse: (why: Error) => void): void {
  drops(take, refuse);

  const picker = byId('file', HTMLInputElement);
  picker.addEventListener('change', () => {
    const file = picker.files?.[0];
    if (file) take(file);
    // So that the same file can be chosen again.
    picker.value = '';
  });

  byId('stage', HTMLElement).addEventListener('click', () => picker.click());

  addEventListener('paste', (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return;
    event.preventDefault();
    take(file);
  });

  byId('samples', HTMLElement).addEventListener('click', async (event) => {
    const address = event.target instanceof Element && event.target.closest<HTMLElement>('[data-sample]')?.dataset.sample;
    if (!address) return;
    try {
      const response = await fetch(address);
      if (!response.ok) throw new Error(`The sample could not be fetched: the server answered ${response.status}.`);
      take(new File([await response.blob()], address.replace(/.*\//, '')));
    } catch (cause) {
      refuse(cause instanceof Error ? cause : new Error(String(cause)));
    }
  });
}

/** Anywhere on the window. */
function drops(take: (file: File) => void, refuse: (why: Error) => void): void {
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
  addEventListener('drop', (event) => {
    event.preventDefault();
    show(0);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
    else refuse(new Error(NOT_A_FILE));
  });
}

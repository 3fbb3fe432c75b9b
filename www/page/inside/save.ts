// Saves files and copies text for the user.

import type { Activation } from 'googlenet-web';

/** Downloads a file. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Downloads a canvas as a PNG file. */
export function savePng(canvas: HTMLCanvasElement, name: string): void {
  canvas.toBlob((blob) => blob && save(blob, `${name}.png`));
}

/** Copies text to the clipboard. The button says whether that worked. */
export function copy(text: string, button: HTMLButtonElement): void {
  navigator.clipboard.writeText(text).then(
    () => (button.textContent = 'Copied'),
    () => (button.textContent = 'The browser does not allow it'),
  );
}

/**
 * Encodes a tensor in version 1.0 of NumPy's format. The header is padded so that the data begin at a multiple of 64.
 */
export function npy({ data, shape }: Activation): Blob {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')}), }`;
  const padded = header.padEnd(Math.ceil((10 + header.length + 1) / 64) * 64 - 10 - 1) + '\n';
  const start = new Uint8Array([0x93, ...[...'NUMPY'].map((c) => c.charCodeAt(0)), 1, 0, padded.length & 255, padded.length >> 8]);
  return new Blob([start, padded, data as Float32Array<ArrayBuffer>], { type: 'application/octet-stream' });
}

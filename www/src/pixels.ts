import { GoogLeNetError } from './errors';
import type { Picture } from './protocol';

// The network sees a few hundred pixels; more than this on a side only costs memory.
const LONGEST = 4096;

/** A picture's RGBA bytes, upright. */
export async function pixels(picture: Picture): Promise<ImageData> {
  if (picture instanceof ImageData) return picture;
  const bitmap = picture instanceof Blob ? await decode(picture) : picture;
  try {
    const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(1, Math.round(bitmap.width * scale));
    const height = Math.max(1, Math.round(bitmap.height * scale));
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw unreadable('this browser gives no canvas to a worker');
    context.imageSmoothingQuality = 'high';
    context.drawImage(bitmap, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}

async function decode(blob: Blob): Promise<ImageBitmap> {
  if (blob.size === 0) throw unreadable('it is empty');
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch {
    throw unreadable('it is no picture this browser can read; JPEG, PNG, WebP, GIF and AVIF are');
  }
}

function unreadable(reason: string): GoogLeNetError {
  return new GoogLeNetError({
    code: 'image',
    detail: undefined,
    message: `This file cannot be opened: ${reason}.`,
  });
}

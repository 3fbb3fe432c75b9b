// Decodes pictures to RGBA bytes.

import { GoogLeNetError } from '../api/errors.js';
import type { Pixels } from '../api/types.js';
import type { Picture } from './protocol.js';

/** The longest side of a decoded picture: the network sees a few hundred pixels, and more only take memory. */
const MAX_SIDE = 4096;

/**
 * Decodes a picture to RGBA bytes in its upright orientation. A bitmap is closed. Throws an `image` or `download` error
 * where that is not possible.
 */
export async function toPixels(picture: Picture): Promise<Pixels> {
  if (isPixels(picture)) return checked(picture);
  if (typeof createImageBitmap === 'undefined') throw unreadable('there is no decoder here, so that only RGBA pixels can be read');
  const bitmap = await toBitmap(picture);
  try {
    const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(1, Math.round(bitmap.width * scale));
    const height = Math.max(1, Math.round(bitmap.height * scale));
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw unreadable('this browser provides no canvas in workers');
    context.imageSmoothingQuality = 'high';
    context.drawImage(bitmap, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}

/** Says whether a picture is RGBA bytes already. */
export function isPixels(picture: unknown): picture is Pixels {
  const data = (picture as Partial<Pixels> | null)?.data;
  return data instanceof Uint8ClampedArray || data instanceof Uint8Array;
}

/** Decodes a picture to a bitmap in its upright orientation. A bitmap is returned as it is. */
export async function toBitmap(picture: Exclude<Picture, Pixels>): Promise<ImageBitmap> {
  if (picture instanceof ImageBitmap) return picture;
  const blob = await fetchBlob(picture);
  if (blob.size === 0) throw unreadable('it is empty');
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch {
    throw unreadable('it is not a picture that this browser can read, as JPEG, PNG, WebP, GIF and AVIF are');
  }
}

/** Checks that the number of bytes fits the size. */
function checked(picture: Pixels): Pixels {
  const { data, width, height } = picture;
  if (Number.isInteger(width) && Number.isInteger(height) && data.length === 4 * width * height) return picture;
  throw unreadable(`${width}x${height} pixels need 4 bytes each, and there are ${data.length}`);
}

/** Fetches a picture's file, where the picture is an address. */
async function fetchBlob(picture: Blob | string): Promise<Blob> {
  if (typeof picture !== 'string') return picture;
  const failed = (why: string, cause?: unknown) => {
    const message = `The picture could not be fetched from ${picture}: ${why}.`;
    return new GoogLeNetError({ code: 'download', detail: picture, message }, { cause });
  };
  const response = await fetch(picture).catch((cause: unknown) => {
    throw failed('there is no connection, or its site does not let other pages read it (CORS)', cause);
  });
  if (!response.ok) throw failed(`the server answered ${response.status}`);
  return response.blob();
}

function unreadable(reason: string): GoogLeNetError {
  return new GoogLeNetError({ code: 'image', message: `This file cannot be opened: ${reason}.` });
}

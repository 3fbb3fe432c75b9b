import { GoogLeNetError } from '../api/errors.js';
import type { Picture } from './protocol.js';
import type { Pixels } from '../api/types.js';

// The network sees a few hundred pixels; more than this on a side only costs memory.
const LONGEST = 4096;

/** A picture's RGBA bytes, upright. */
export async function pixels(picture: Picture): Promise<Pixels> {
  if (isPixels(picture)) return whole(picture);
  if (typeof createImageBitmap === 'undefined') throw unreadable('there is no decoder here: hand in RGBA pixels');
  const drawn = await bitmap(picture);
  try {
    const scale = Math.min(1, LONGEST / Math.max(drawn.width, drawn.height));
    const width = Math.max(1, Math.round(drawn.width * scale));
    const height = Math.max(1, Math.round(drawn.height * scale));
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw unreadable('this browser gives no canvas to a worker');
    context.imageSmoothingQuality = 'high';
    context.drawImage(drawn, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  } finally {
    drawn.close();
  }
}

/** Whether a picture is pixels already. */
export function isPixels(picture: unknown): picture is Pixels {
  const data = (picture as Partial<Pixels> | null)?.data;
  return data instanceof Uint8ClampedArray || data instanceof Uint8Array;
}

/** A picture as the browser draws it, upright. A bitmap is given back as it is. */
export async function bitmap(picture: Exclude<Picture, Pixels>): Promise<ImageBitmap> {
  if (picture instanceof ImageBitmap) return picture;
  const blob = await file(picture);
  if (blob.size === 0) throw unreadable('it is empty');
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch {
    throw unreadable('it is no picture this browser can read; JPEG, PNG, WebP, GIF and AVIF are');
  }
}

/** Pixels as many as their size says. */
function whole(picture: Pixels): Pixels {
  const { data, width, height } = picture;
  if (Number.isInteger(width) && Number.isInteger(height) && data.length === 4 * width * height) return picture;
  throw unreadable(`${width}x${height} pixels are RGBA bytes of another number than ${data.length}`);
}

/** A picture's file, from its address. */
async function file(picture: Blob | string): Promise<Blob> {
  if (typeof picture !== 'string') return picture;
  const refused = (why: string, cause?: unknown) => {
    const message = `The picture could not be fetched from ${picture}: ${why}.`;
    return new GoogLeNetError({ code: 'download', detail: picture, message }, { cause });
  };
  const response = await fetch(picture).catch((cause: unknown) => {
    throw refused('there is no connection, or its site does not let other pages read it (CORS)', cause);
  });
  if (!response.ok) throw refused(`the server answered ${response.status}`);
  return response.blob();
}

function unreadable(reason: string): GoogLeNetError {
  return new GoogLeNetError({ code: 'image', message: `This file cannot be opened: ${reason}.` });
}

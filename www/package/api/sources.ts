// Turns whatever shows a picture into something that can be posted to the session.

import { isPixels } from '../worker/pixels.js';
import type { Picture } from '../worker/protocol.js';
import { GoogLeNetError, argumentError } from './errors.js';
import { absolute } from './models.js';
import type { Source } from './types.js';

// Objects are recognised by the name of their class, since those of another window have classes of their own.
const DRAWABLE = ['HTMLVideoElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'ImageBitmap', 'VideoFrame'];
const IMAGES = ['HTMLImageElement', 'SVGImageElement'];

/**
 * Returns a picture that can be posted. A bitmap in the result is a copy of the source and may be transferred. Throws
 * an `image` error where an element shows no picture, and an `argument` error for anything that is not
 * a {@link Source}.
 */
export async function toPicture(source: Source): Promise<Picture> {
  if (typeof source === 'string' || source instanceof URL) return absolute(source);
  const kind = Object.prototype.toString.call(source).slice(8, -1);
  if (kind === 'Blob' || kind === 'File') return source as Blob;
  if (IMAGES.includes(kind)) return decoded(source as HTMLImageElement);
  if (DRAWABLE.includes(kind)) return toBitmap(source as HTMLCanvasElement);
  if (isPixels(source)) return { data: source.data, width: source.width, height: source.height };
  throw argumentError(`There is no picture in ${kind === 'Object' ? 'this object' : `a value of type ${kind}`}.`);
}

/** Lists the parts of a picture that are transferred to the session instead of being copied. */
export function transferables(picture: Picture): Transferable[] {
  return typeof ImageBitmap !== 'undefined' && picture instanceof ImageBitmap ? [picture] : [];
}

/** Waits until an image element has decoded its picture, and copies it. */
async function decoded(image: HTMLImageElement): Promise<ImageBitmap> {
  await image.decode().catch(() => {
    throw unreadable('the element shows no picture');
  });
  return toBitmap(image);
}

/** Copies what an element shows at this moment. */
async function toBitmap(element: ImageBitmapSource): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(element);
  } catch (cause) {
    throw unreadable(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function unreadable(why: string, cause?: unknown): GoogLeNetError {
  return new GoogLeNetError({ code: 'image', message: `This picture cannot be read: ${why}.` }, { cause });
}

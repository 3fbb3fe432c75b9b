// Whatever shows a picture, as something that can be posted to the session.

import { GoogLeNetError, bad } from './errors.js';
import { absolute } from './models.js';
import { isPixels } from '../worker/pixels.js';
import type { Picture } from '../worker/protocol.js';
import type { Source } from './types.js';

/** By what they call themselves, as those of another window are of another class. */
const DRAWN = ['HTMLVideoElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'ImageBitmap', 'VideoFrame'];
const IMAGES = ['HTMLImageElement', 'SVGImageElement'];

/** A picture to post. A bitmap is a copy, and can be transferred. */
export async function picture(source: Source): Promise<Picture> {
  if (typeof source === 'string' || source instanceof URL) return absolute(source);
  const kind = Object.prototype.toString.call(source).slice(8, -1);
  if (kind === 'Blob' || kind === 'File') return source as Blob;
  if (IMAGES.includes(kind)) return shown(source as HTMLImageElement);
  if (DRAWN.includes(kind)) return bitmap(source as HTMLCanvasElement);
  if (isPixels(source)) return { data: source.data, width: source.width, height: source.height };
  throw bad(`There is no picture in ${kind === 'Object' ? 'this object' : `a value of type ${kind}`}.`);
}

/** What must move with a picture, rather than be copied. */
export function moved(picture: Picture): Transferable[] {
  return typeof ImageBitmap !== 'undefined' && picture instanceof ImageBitmap ? [picture] : [];
}

async function shown(image: HTMLImageElement): Promise<ImageBitmap> {
  await image.decode().catch(() => {
    throw unreadable('the element shows no picture');
  });
  return bitmap(image);
}

/** A copy of what an element shows just now. */
async function bitmap(element: ImageBitmapSource): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(element);
  } catch (cause) {
    throw unreadable(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function unreadable(why: string, cause?: unknown): GoogLeNetError {
  return new GoogLeNetError({ code: 'image', message: `This picture cannot be read: ${why}.` }, { cause });
}

// Where the models are, and what they must be.

import { bad } from './errors.js';
import type { ModelPlace } from '../worker/protocol.js';
import type { LoadOptions } from './types.js';

/** Of the files in `models/`; `cargo xtask pack` checks them. */
const SHA256: Record<string, string> = {
  'cifar10.safetensors': '0da0aadadde0d358ed534ae723b77416f6df70371b285b528ee74356ef97c570',
  'cifar10-noheads.safetensors': '1981b5f374b927ed8367986b0afb1c979ef78d7730416689e94555943ba6b6dc',
};

const NO_IMAGENET =
  'The ImageNet model does not come with the package. Serve imagenet.safetensors (`cargo xtask model imagenet` makes it) ' +
  'and say in which folder it is with modelUrl.';

/** What to load. Addresses are made whole, since a worker's own is another than the page's. */
export function place({ model = 'cifar10', heads = true, modelUrl }: LoadOptions): ModelPlace {
  if (model instanceof Blob || model instanceof Uint8Array) return model;
  if (model instanceof ArrayBuffer) return new Uint8Array(model);
  if (model === 'cifar10' || model === 'imagenet') return named(model as 'cifar10' | 'imagenet', heads, modelUrl);
  if (typeof model === 'string' || model instanceof URL) return { url: absolute(model), sha256: undefined };
  const { url, sha256 } = (!heads && model.noHeads) || model;
  return { url: absolute(url), sha256 };
}

function named(name: 'cifar10' | 'imagenet', heads: boolean, folder: string | URL | undefined): ModelPlace {
  const file = `${name}${name === 'cifar10' && !heads ? '-noheads' : ''}.safetensors`;
  const sha256 = SHA256[file];
  if (folder !== undefined) return { url: new URL(file, directory(folder)).href, sha256 };
  if (name === 'imagenet') throw bad(NO_IMAGENET);
  // Bundlers find these two as they stand.
  const url = heads
    ? new URL('../../models/cifar10.safetensors', import.meta.url)
    : new URL('../../models/cifar10-noheads.safetensors', import.meta.url);
  return { url: url.href, sha256 };
}

/** An address in full; a page's are relative to it. */
export function absolute(url: string | URL): string {
  const base = typeof document === 'undefined' ? globalThis.location?.href : document.baseURI;
  try {
    return new URL(url, base).href;
  } catch {
    throw bad(`"${url}" is no address.`);
  }
}

/** The address of a folder, which ends in a slash. */
export function directory(url: string | URL): string {
  return absolute(url).replace(/\/*$/, '/');
}

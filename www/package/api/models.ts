// Where the model files are, and which hashes they must have.

import type { ModelLocation } from '../worker/protocol.js';
import { argumentError } from './errors.js';
import type { LoadOptions } from './types.js';

/** The hashes of the files in `models/`, which `cargo xtask pack` checks. */
const SHA256: Record<string, string> = {
  'cifar10.safetensors': '0da0aadadde0d358ed534ae723b77416f6df70371b285b528ee74356ef97c570',
  'cifar10-noheads.safetensors': '1981b5f374b927ed8367986b0afb1c979ef78d7730416689e94555943ba6b6dc',
};

const NO_IMAGENET =
  'The ImageNet model does not come with the package. Serve imagenet.safetensors (`cargo xtask model imagenet` makes it) ' +
  'and say in which folder it is with modelUrl.';

/**
 * Returns the model that the options ask for: its bytes, or its address. Addresses are made absolute here, since a
 * worker resolves relative ones against its own script.
 */
export function locateModel({ model = 'cifar10', heads = true, modelUrl }: LoadOptions): ModelLocation {
  if (model instanceof Blob || model instanceof Uint8Array) return model;
  if (model instanceof ArrayBuffer) return new Uint8Array(model);
  if (model === 'cifar10' || model === 'imagenet') return named(model as 'cifar10' | 'imagenet', heads, modelUrl);
  if (typeof model === 'string' || model instanceof URL) return { url: absolute(model), sha256: undefined };
  const { url, sha256 } = (!heads && model.noHeads) || model;
  return { url: absolute(url), sha256 };
}

/** Locates a model by its name, in the given folder or among the package's files. */
function named(name: 'cifar10' | 'imagenet', heads: boolean, folder: string | URL | undefined): ModelLocation {
  const file = `${name}${name === 'cifar10' && !heads ? '-noheads' : ''}.safetensors`;
  const sha256 = SHA256[file];
  if (folder !== undefined) return { url: new URL(file, directory(folder)).href, sha256 };
  if (name === 'imagenet') throw argumentError(NO_IMAGENET);
  // Bundlers recognise these two expressions only as they are written here.
  const url = heads
    ? new URL('../../models/cifar10.safetensors', import.meta.url)
    : new URL('../../models/cifar10-noheads.safetensors', import.meta.url);
  return { url: url.href, sha256 };
}

/** Returns the absolute address. A relative one is relative to the page. */
export function absolute(url: string | URL): string {
  const base = typeof document === 'undefined' ? globalThis.location?.href : document.baseURI;
  try {
    return new URL(url, base).href;
  } catch {
    throw argumentError(`"${url}" is no address.`);
  }
}

/** Returns the absolute address of a folder, which ends in a slash. */
export function directory(url: string | URL): string {
  return absolute(url).replace(/\/*$/, '/');
}

// The models that the page offers.

import type { Imported, Model } from 'googlenet-web';

/** A model that can be chosen. */
export interface Entry {
  id: string;
  name: string;
  source: Model;
  /** What its file does not state. */
  imported?: Imported;
}

/** The text where there is no model. */
export const NO_MODEL =
  'There is no model here yet. Drop a GoogLeNet as a .safetensors file on this page, or put one into www/models and start again.';

/** The file name endings of models. */
const ENDINGS = ['.safetensors', '.h5', '.keras', '.onnx', '.caffemodel'];

/** A file's address and hash. */
interface Served {
  url: string;
  sha256: string;
}

/** The content of `models/index.json`. */
interface Index {
  models: ({ id: string; name: string; noHeads?: Served } & Served)[];
  /** Whether the server is downloading another one. */
  expected?: boolean;
}

/** Fetches the list of the models that are served beside the page, and whether another one may follow. */
export async function served(): Promise<{ models: Entry[]; expected: boolean }> {
  const response = await fetch('models/index.json');
  if (!response.ok) return { models: [], expected: false };
  const { models, expected = false } = (await response.json()) as Index;
  const entry = ({ id, name, url, sha256, noHeads }: Index['models'][number]): Entry => ({ id, name, source: { url, sha256, noHeads } });
  return { models: models.map(entry), expected };
}

/** Returns the entry of a model file that the user has dropped or picked. */
export function fromFile(file: File): Entry {
  return { id: `file:${file.name}`, name: file.name, source: file };
}

/** Says whether a file is a model, by its name. */
export function isModel(file: File): boolean {
  const name = file.name.toLowerCase();
  return ENDINGS.some((ending) => name.endsWith(ending));
}

import type { Imported, Model } from 'googlenet-web';

/** A model one can choose. */
export interface Entry {
  id: string;
  name: string;
  source: Model;
  /** What its file does not say. */
  imported?: Imported;
}

/** What to say where there is none. */
export const NO_MODEL =
  'There is no model here yet. Drop a GoogLeNet as a .safetensors file on this page, or put one into www/models and start again.';

/** What the files of models are called: ours, and those the importers read. */
const FILES = ['.safetensors', '.h5', '.keras', '.onnx', '.caffemodel'];

/** A file's address and hash. */
interface Served {
  url: string;
  sha256: string;
}

/** `models/index.json`. */
interface Index {
  models: ({ id: string; name: string; noHeads?: Served } & Served)[];
  /** Whether the server is getting another one. */
  expected?: boolean;
}

/** The models that are served beside the page, and whether another one may follow. */
export async function served(): Promise<{ models: Entry[]; expected: boolean }> {
  const response = await fetch('models/index.json');
  if (!response.ok) return { models: [], expected: false };
  const { models, expected = false } = (await response.json()) as Index;
  const entry = ({ id, name, url, sha256, noHeads }: Index['models'][number]): Entry => ({ id, name, source: { url, sha256, noHeads } });
  return { models: models.map(entry), expected };
}

/** A model file that a person brought. */
export function brought(file: File): Entry {
  return { id: `file:${file.name}`, name: file.name, source: file };
}

export function isModel(file: File): boolean {
  const name = file.name.toLowerCase();
  return FILES.some((ending) => name.endsWith(ending));
}

import type { ModelSource } from '../client';

/** A model one can choose. */
export interface Entry {
  id: string;
  name: string;
  source: ModelSource;
}

/** What to say where there is none. */
export const NO_MODEL =
  'There is no model here yet. Drop a GoogLeNet as a .safetensors file on this page, or put one into www/models and start again.';

/** The models that are served beside the page. */
export async function served(): Promise<Entry[]> {
  const response = await fetch('models/index.json');
  if (!response.ok) return [];
  const { models } = (await response.json()) as { models: { id: string; name: string; url: string }[] };
  return models.map(({ id, name, url }) => ({ id, name, source: url }));
}

/** A model file that a person brought. */
export function brought(file: File): Entry {
  return { id: `file:${file.name}`, name: file.name, source: file };
}

export function isModel(file: File): boolean {
  return file.name.toLowerCase().endsWith('.safetensors');
}

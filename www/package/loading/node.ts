// Reads files in Node, whose fetch does not. The module is looked up at run time, so that no bundler includes it.

interface Process {
  getBuiltinModule?(name: 'node:fs/promises'): { readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> };
}

/** Reads a file by its `file:` address. Throws outside of Node. */
export async function readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { process } = globalThis as { process?: Process };
  const files = process?.getBuiltinModule?.('node:fs/promises');
  if (!files) throw new Error('only Node reads files by their address');
  return files.readFile(url);
}

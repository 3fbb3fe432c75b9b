// What is different in Node, whose fetch reads no files. Asked for at run time, so that no bundler looks for it.

interface Process {
  getBuiltinModule?(name: 'node:fs/promises'): { readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> };
}

/** A file's bytes. */
export async function readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { process } = globalThis as { process?: Process };
  const files = process?.getBuiltinModule?.('node:fs/promises');
  if (!files) throw new Error('only Node reads files by their address');
  return files.readFile(url);
}

// What is different in Node, whose fetch reads no files. Asked for at run time, so that no bundler looks for it.

interface Process {
  versions?: { v8?: string };
  getBuiltinModule?(name: 'node:fs/promises'): { readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> };
}

/** A file's bytes. */
export async function readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { process } = globalThis as { process?: Process };
  const files = process?.getBuiltinModule?.('node:fs/promises');
  if (!files) throw new Error('only Node reads files by their address');
  return files.readFile(url);
}

/** Whether this is a Node whose compiler keeps tiles of six rows, relaxed SIMD's, in memory: 58 ms where four take 38. */
export function spillsTiles(): boolean {
  const { process } = globalThis as { process?: Process };
  // Node 22 has 12.4, Node 24 has 13.6.
  return Number.parseInt(process?.versions?.v8 ?? '', 10) < 13;
}

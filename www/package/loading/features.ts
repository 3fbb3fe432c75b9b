// What WebAssembly can do in this browser: a tiny module of each kind, and whether it is valid.

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** Type 0 is a function that gives a v128, and function 0 is of that type. */
const GIVES_VECTOR = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, 0x03, 0x02, 0x01, 0x00];
/** i8x16.splat (i32.const 0) */
const VECTOR = [0x41, 0x00, 0xfd, 0x0f];

const valid = (...bytes: number[]) => WebAssembly.validate(new Uint8Array([...HEADER, ...bytes]));

/** Code of one function without locals. */
function code(...body: number[]): number[] {
  return [0x0a, body.length + 4, 0x01, body.length + 2, 0x00, ...body, 0x0b];
}

export function hasSimd(): boolean {
  return valid(...GIVES_VECTOR, ...code(...VECTOR));
}

export function hasRelaxedSimd(): boolean {
  const relaxedMadd = [0xfd, 0x85, 0x02];
  return valid(...GIVES_VECTOR, ...code(...VECTOR, ...VECTOR, ...VECTOR, ...relaxedMadd));
}

/** Threads also need a page that is cross-origin isolated. */
export function hasThreads(): boolean {
  const givesNothing = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00];
  const sharedMemory = [0x05, 0x04, 0x01, 0x03, 0x01, 0x01];
  // drop (i32.atomic.load (i32.const 0))
  const load = [0x41, 0x00, 0xfe, 0x10, 0x02, 0x00, 0x1a];
  return (
    globalThis.crossOriginIsolated &&
    typeof SharedArrayBuffer === 'function' &&
    valid(...givesNothing, ...sharedMemory, ...code(...load))
  );
}

/** Whether this is a V8 that keeps tiles of six rows, relaxed SIMD's, in memory: 58 ms where four take 38. */
export function spillsTiles(): boolean {
  const { process, navigator } = globalThis as { process?: { versions?: { v8?: string } }; navigator?: { userAgent?: string } };
  // Node 22 has 12.4, Node 24 has 13.6; Chrome's version is ten times that.
  const [, chrome] = /Chrome\/(\d+)/.exec(navigator?.userAgent ?? '') ?? [];
  return Number.parseInt(process?.versions?.v8 ?? '', 10) < 13 || Number(chrome) < 130;
}

// Detects what WebAssembly supports in this browser, by validating a tiny module for each feature.

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** Type 0 is a function that returns a v128, and function 0 has that type. */
const RETURNS_VECTOR = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, 0x03, 0x02, 0x01, 0x00];
/** i8x16.splat (i32.const 0) */
const VECTOR = [0x41, 0x00, 0xfd, 0x0f];

const valid = (...bytes: number[]) => WebAssembly.validate(new Uint8Array([...HEADER, ...bytes]));

/** Encodes the code section of one function without locals. */
function code(...body: number[]): number[] {
  return [0x0a, body.length + 4, 0x01, body.length + 2, 0x00, ...body, 0x0b];
}

/** Says whether there is SIMD with 128 bits. */
export function hasSimd(): boolean {
  return valid(...RETURNS_VECTOR, ...code(...VECTOR));
}

/** Says whether there is relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  const relaxedMadd = [0xfd, 0x85, 0x02];
  return valid(...RETURNS_VECTOR, ...code(...VECTOR, ...VECTOR, ...VECTOR, ...relaxedMadd));
}

/** Says whether there are threads, which also need a page that is cross-origin isolated. */
export function hasThreads(): boolean {
  const returnsNothing = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00];
  const sharedMemory = [0x05, 0x04, 0x01, 0x03, 0x01, 0x01];
  // drop (i32.atomic.load (i32.const 0))
  const load = [0x41, 0x00, 0xfe, 0x10, 0x02, 0x00, 0x1a];
  return (
    globalThis.crossOriginIsolated &&
    typeof SharedArrayBuffer === 'function' &&
    valid(...returnsNothing, ...sharedMemory, ...code(...load))
  );
}

/**
 * Says whether this is a version of V8 that keeps the accumulators of relaxed SIMD's register tiles, which have six
 * rows, in memory: a run takes 58 ms there instead of 38 ms with plain SIMD's tiles of four rows.
 */
export function spillsRegisterTiles(): boolean {
  const { process, navigator } = globalThis as { process?: { versions?: { v8?: string } }; navigator?: { userAgent?: string } };
  // Node 22 has V8 12.4 and Node 24 has 13.6; Chrome's version is ten times V8's.
  const [, chrome] = /Chrome\/(\d+)/.exec(navigator?.userAgent ?? '') ?? [];
  return Number.parseInt(process?.versions?.v8 ?? '', 10) < 13 || Number(chrome) < 130;
}

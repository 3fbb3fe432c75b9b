/**
 * GoogLeNet (Inception v1) in the browser and in Node, on WebGPU or WebAssembly SIMD.
 *
 * @packageDocumentation
 */

export { GoogLeNet } from './api/client.js';
export { GoogLeNetError } from './api/errors.js';
export type * from './api/types.js';

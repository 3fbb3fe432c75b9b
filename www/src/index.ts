/**
 * GoogLeNet (Inception v1) in the browser and in Node: WebGPU, or WebAssembly SIMD.
 *
 * @packageDocumentation
 */

export { GoogLeNet } from './client.js';
export { GoogLeNetError } from './errors.js';
export type * from './types.js';

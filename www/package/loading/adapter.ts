// Chooses the backend, before any of the engine's modules is fetched.

import type { Choice, EngineKind } from '../api/backend.js';
import { GoogLeNetError } from '../api/errors.js';

/** The names of adapters that compute on the CPU; `src/gpu/device.rs` has the same list. */
const SOFTWARE = ['swiftshader', 'llvmpipe', 'lavapipe', 'softpipe', 'basic render driver'];

const NO_WEBGPU = 'there is no WebGPU here';

/** The parts of WebGPU that are used here. */
interface Adapter {
  info?: { description: string; vendor: string; architecture: string };
}

interface Gpu {
  requestAdapter(options: { powerPreference?: 'high-performance'; forceFallbackAdapter?: boolean }): Promise<Adapter | null>;
}

/** The backend to run on. */
export interface Decision {
  backend: EngineKind;
  /** Whether the choice was left to the package, so that the CPU takes over where the GPU cannot be used. */
  auto: boolean;
  /** Why `auto` has not chosen the GPU, as a sentence without its period. */
  reason: string | undefined;
}

/** Decides which backend to run on. Throws a `no-gpu` error where the GPU is asked for and there is no WebGPU. */
export async function chooseBackend(choice: Choice): Promise<Decision> {
  if (choice === 'cpu') return { backend: 'cpu', auto: false, reason: undefined };
  if (choice === 'gpu') {
    if (gpu()) return { backend: 'gpu', auto: false, reason: undefined };
    throw new GoogLeNetError({ code: 'no-gpu', message: `WebGPU cannot be used: ${NO_WEBGPU}.` });
  }
  const reason = await unusable();
  return { backend: reason === undefined ? 'gpu' : 'cpu', auto: true, reason };
}

function gpu(): Gpu | undefined {
  return (globalThis.navigator as { gpu?: Gpu } | undefined)?.gpu;
}

/** Says why `auto` does not use this browser's GPU; returns undefined where it does. */
async function unusable(): Promise<string | undefined> {
  const webgpu = gpu();
  if (!webgpu) return NO_WEBGPU;
  const request = (options: Parameters<Gpu['requestAdapter']>[0]) => webgpu.requestAdapter(options).catch(() => null);
  // Some browsers return their software adapter only where it is asked for.
  const adapter = (await request({ powerPreference: 'high-performance' })) ?? (await request({ forceFallbackAdapter: true }));
  if (!adapter) return 'WebGPU cannot be used here: this browser offers no WebGPU adapter';
  const { description = '', vendor = '', architecture = '' } = adapter.info ?? {};
  const names = [description, `${vendor} ${architecture}`.trim()];
  // An adapter without a name is taken to be hardware; the engine checks it again.
  if (!names.some((name) => SOFTWARE.some((software) => name.toLowerCase().includes(software)))) return undefined;
  const name = names.find(Boolean);
  return `WebGPU cannot be used here: the only adapter is "${name} (WebGPU)", which computes on the CPU`;
}

// Whether this browser's GPU is worth a download. Asked before any of the engine's modules is fetched.

/** What adapters that compute on the CPU call themselves; `src/gpu/device.rs` has the same list. */
const SOFTWARE = ['swiftshader', 'llvmpipe', 'lavapipe', 'softpipe', 'basic render driver'];

export const NO_WEBGPU = 'there is no WebGPU here';

/** What of WebGPU is used here. */
interface Adapter {
  info?: { description: string; vendor: string; architecture: string };
}

interface Gpu {
  requestAdapter(options: { powerPreference?: 'high-performance'; forceFallbackAdapter?: boolean }): Promise<Adapter | null>;
}

/** Why the choice `auto` does not take this browser's GPU, as a sentence without its period; undefined where it does. */
export async function refusal(): Promise<string | undefined> {
  const gpu = (globalThis.navigator as { gpu?: Gpu } | undefined)?.gpu;
  if (!gpu) return NO_WEBGPU;
  const request = (options: Parameters<Gpu['requestAdapter']>[0]) => gpu.requestAdapter(options).catch(() => null);
  // Some browsers hand out their software adapter only where it is asked for.
  const adapter = (await request({ powerPreference: 'high-performance' })) ?? (await request({ forceFallbackAdapter: true }));
  if (!adapter) return 'WebGPU cannot be used here: this browser offers no WebGPU adapter';
  const { description = '', vendor = '', architecture = '' } = adapter.info ?? {};
  const names = [description, `${vendor} ${architecture}`.trim()];
  // A GPU that says nothing of itself is taken; its module looks again.
  if (!names.some((name) => SOFTWARE.some((software) => name.toLowerCase().includes(software)))) return undefined;
  const name = names.find(Boolean);
  return `WebGPU cannot be used here: the only adapter is "${name} (WebGPU)", which computes on the CPU`;
}

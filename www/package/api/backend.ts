// The names of the backends. The package's users say `webgpu` and `wasm`; the engine and its modules say `gpu` and
// `cpu`. This file is the only place that translates between them.

import { argumentError } from './errors.js';
import type { Backend, Info } from './types.js';

/** A backend by the engine's name. */
export type EngineKind = 'gpu' | 'cpu';

/** What a caller asks for, by the engine's names. `auto` leaves the choice to the package. */
export type Choice = EngineKind | 'auto';

const CHOICES: Record<Backend, Choice> = { auto: 'auto', webgpu: 'gpu', gpu: 'gpu', wasm: 'cpu', cpu: 'cpu' };

const NAMES: Record<EngineKind, Info['backend']> = { gpu: 'webgpu', cpu: 'wasm' };

/** Translates the option `backend`. Throws an `argument` error for a name that does not exist. */
export function toChoice(backend: Backend): Choice {
  if (!Object.hasOwn(CHOICES, backend)) {
    throw argumentError(`"${backend}" is no backend; there are auto, webgpu and wasm.`);
  }
  return CHOICES[backend];
}

/** Translates the engine's name of a backend into the one that `info.backend` has. */
export function toBackend(engine: EngineKind): Info['backend'] {
  return NAMES[engine];
}

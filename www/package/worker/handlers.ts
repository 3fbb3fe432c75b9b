// What each call does.

import { failure } from '../api/errors.js';
import type { Ablation, Progress, StepTime } from '../api/types.js';
import type { Engine } from '../loading/engines.js';
import type { Network } from '../loading/network.js';
import type { Recovery } from '../recovery/recovery.js';
import type { Classifier } from './classifier.js';
import { hasGpuCanvas, toBitmap, type SheetOnGpu } from './gpu-canvas.js';
import { toPixels } from './pixels.js';
import type { Call, Calls, Explanation, Sheet } from './protocol.js';
import type { Tuner } from './tuner.js';

/** Answers a call. It may call `release` to let the next call begin before it has ended. */
export type Handler<C extends Call> = (
  args: Calls[C]['args'],
  report: (progress: Progress) => void,
  release: () => void,
) => Promise<Calls[C]['result']>;

export type Handlers = { [C in Call]: Handler<C> };

/** The parts of a session that the calls use. */
export interface Parts {
  network: Network;
  recovery: Recovery;
  classifier: Classifier;
  tuner: Tuner;
}

/** The layer that the classifier reads, in every variant of GoogLeNet. */
const POOLED = 'pool5/7x7_s1';

/** The number of values in the network's input for one picture. */
const INPUT_LENGTH = 224 * 224 * 3;

/** Returns the handlers of a session. */
export function createHandlers({ network, recovery, classifier, tuner }: Parts): Handlers {
  return {
    load: (args, report) => {
      tuner.enable(args.settings.tune);
      return network.load(args, report);
    },
    move: ({ backend }, report) => network.restart(backend, report),
    classify: async ({ pictures, crop, top }, _, release) => {
      const read = await Promise.all(pictures.map((picture) => toPixels(picture).catch(failure)));
      const readable = read.filter((picture) => 'data' in picture);
      const answers = readable.length > 0 ? await classifier.classify(readable, { crop, top, release }) : [];
      return read.map((picture) => ('data' in picture ? answers.shift()! : picture));
    },
    features: async ({ picture, crop }) => {
      await classifier.classify([await toPixels(picture)], { crop, top: 0 });
      return (await recovery.runOnLastPicture((engine) => engine.read(POOLED)) as Calls['read']['result']).data;
    },
    run: async ({ values }) => {
      const run = (engine: Engine) => engine.run_tensor(values);
      const result = await recovery.run(run, Math.max(1, values.length / INPUT_LENGTH));
      recovery.rememberRun(run, values.byteLength);
      return result as Calls['run']['result'];
    },
    read: async ({ layer }) => (await recovery.runOnLastPicture((engine) => engine.read(layer))) as Calls['read']['result'],
    stats: async ({ layer, image, channel }) => {
      return { data: await recovery.runOnLastPicture((engine) => engine.stats(layer, image, channel)) };
    },
    draw: async ({ layer, image, channels, columns, scale, gap, colormap, range }) => {
      const ends = Float32Array.from(range);
      return recovery.runOnLastPicture(async (engine) => {
        const draw = (keepOnGpu: boolean): Promise<SheetOnGpu | Sheet> => {
          return engine.draw(layer, image, channels, columns, scale, gap, colormap, ends, keepOnGpu);
        };
        const sheet = await draw(hasGpuCanvas());
        return 'pixels' in sheet ? (toBitmap(sheet) ?? ((await draw(false)) as Sheet)) : sheet;
      });
    },
    explain: async ({ index }) => (await recovery.runOnLastPicture((engine) => engine.explain(index))) as Explanation,
    ablate: async ({ gains, top }) => {
      const [branches, weights] = [Object.keys(gains), Float32Array.from(Object.values(gains))];
      const run = (engine: Engine) => engine.ablate(branches, weights, top);
      const { top: best, heads, ms, before, untouched } = (await recovery.runOnLastPicture(run)) as Ablation;
      recovery.rememberGains(branches.length > 0 ? run : undefined);
      return { top: best, heads, ms, before, untouched };
    },
    profile: async ({ timed }) => network.engine.profile(timed) as StepTime[],
  };
}

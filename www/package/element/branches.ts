// The branch view: a contact sheet of each of a module's four branches.

import type { GoogLeNet } from '../api/client.js';
import type { Layer } from '../api/types.js';
import { describe, make } from './dom.js';

/** Shows the branches of the module that is chosen from a list. */
export class Branches {
  readonly #select = make('select', 'select');
  readonly #lanes = make('div', 'lanes');
  readonly view = make('section', 'branches', make('label', 'module', 'Inside module ', this.#select), this.#lanes);

  constructor(onChoice: () => void) {
    this.view.hidden = true;
    this.#select.addEventListener('change', onChoice);
  }

  /** Draws the branches' outputs for the last picture. */
  async show(net: GoogLeNet): Promise<void> {
    const outputs = net.layers.filter(({ layer }) => /^inception_\w+\/output$/.test(layer));
    if (this.#select.options.length !== outputs.length) {
      const option = ({ module }: Layer) => new Option(module?.replace('inception_', '') ?? '', module ?? '');
      this.#select.replaceChildren(...outputs.map(option));
    }
    const output = outputs.find(({ module }) => module === this.#select.value) ?? outputs[0];
    const branches = net.layers.filter(({ layer }) => output?.inputs.includes(layer));
    const lanes = await Promise.all(branches.map((branch) => lane(net, branch)));
    this.#lanes.replaceChildren(...lanes);
    this.view.hidden = false;
  }
}

/** Draws the contact sheet of a branch. */
async function lane(net: GoogLeNet, { layer, branch, shape: [height, width, channels] }: Layer): Promise<HTMLElement> {
  const canvas = make('canvas', 'tiles');
  const what = `${channels} channels, ${height}x${width}`;
  describe(canvas, 'img', `Branch ${branch}: ${what}`);
  await net.draw(canvas, { layer, columns: 8 });
  return make('figure', 'branch', make('figcaption', 'caption', make('b', '', branch ?? layer), ` ${what}`), canvas);
}

// The tab "Cost": what the 1x1 reductions save.

import type { GoogLeNet, Layer } from 'googlenet-web';
import { byId } from '../dom';
import { fillTable, type Cell } from './table';
import type { Tab } from './tab';

const table = byId('cost', HTMLTableElement);

const TITLES = ['Branch', 'Multiply-adds, directly', 'with its reduction', 'less by', 'Parameters, directly', 'with its reduction'];

export const cost: Tab = { panel: 'costs', label: 'Cost', connect: () => {}, showNetwork: draw };

/** Compares each 3x3 and 5x5 convolution and its reduction with one that reads the module's input directly. */
function draw({ layers }: GoogLeNet): void {
  const byName = new Map(layers.map((layer) => [layer.layer, layer]));
  const rows: Cell[][] = [];
  for (const layer of layers) {
    const reduce = byName.get(`${layer.layer}_reduce`);
    const input = reduce && byName.get(reduce.inputs[0] ?? '');
    if (!reduce || !input || !layer.module) continue;
    const direct = directCost(layer, reduce, input);
    const reduced = { macs: layer.macs + reduce.macs, params: layer.params + reduce.params };
    const saved = `${(direct.macs / reduced.macs).toFixed(1)}x`;
    rows.push([layer.layer, direct.macs, reduced.macs, saved, direct.params, reduced.params]);
  }
  fillTable(table, TITLES, rows);
}

/**
 * Returns the cost of the same convolution on the module's input. The window's size follows from the number of
 * parameters: a filter has a weight for each input channel and window position, and a bias.
 */
function directCost({ shape, params }: Layer, reduce: Layer, input: Layer): { macs: number; params: number } {
  const [height, width, channels] = shape;
  const window = (params / channels - 1) / reduce.shape[2];
  const weights = window * input.shape[2] * channels;
  return { macs: height * width * weights, params: weights + channels };
}

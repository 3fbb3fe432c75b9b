// Runs in the browser: classifies pictures that are the rows of one large picture.

import { GoogLeNet, type Backend, type Info } from '../../package/index.js';

/** The probability of every class, by head. */
type Heads = Record<string, number[]>;

let net: GoogLeNet | undefined;
let rows: ImageBitmap | undefined;

async function open(model: string, backend: Backend, pictures: string): Promise<Info> {
  net?.free();
  rows ??= await createImageBitmap(await (await fetch(pictures)).blob(), { colorSpaceConversion: 'none' });
  net = await GoogLeNet.load({ model, backend });
  return net.info;
}

async function classify(n: number): Promise<Heads> {
  if (!net || !rows) throw new Error('open a model first');
  const side = Math.sqrt(rows.width);
  const context = new OffscreenCanvas(rows.width, 1).getContext('2d');
  if (!context) throw new Error('there is no canvas');
  context.drawImage(rows, 0, -n);
  const { data } = context.getImageData(0, 0, rows.width, 1);
  const { classes } = net.info;
  const { heads } = await net.classify(new ImageData(data, side, side), { top: classes });
  const all = heads.map(({ name, top }) => {
    const probabilities = new Array<number>(classes).fill(0);
    for (const { index, probability } of top) probabilities[index] = probability;
    return [name, probabilities] as const;
  });
  return Object.fromEntries(all);
}

Object.assign(window, { sample: { open, classify } });

// The tab "Time": how long each step of a run takes, on one engine or on both.

import type { GoogLeNet, Layer, StepTime } from 'googlenet-web';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { byId, share } from '../dom';
import { engineName } from '../format';
import { fillTable, type Cell } from './table';
import type { IsCurrent, Tab, View } from './tab';

const table = byId('time-table', HTMLTableElement);
const flame = byId('flame', HTMLElement);
const total = byId('time-total', HTMLElement);

/** The times of a run on an engine. */
interface TimedRun {
  engine: string;
  steps: StepTime[];
}

let view: View;
/** The network whose times are shown. */
let network: GoogLeNet | undefined;

export const time: Tab = {
  panel: 'times',
  label: 'Time',
  connect: (section) => {
    view = section;
    byId('measure', HTMLButtonElement).addEventListener('click', () => view.run((isCurrent) => measure(false, isCurrent)));
    byId('measure-other', HTMLButtonElement).addEventListener('click', () => view.run((isCurrent) => measure(true, isCurrent)));
  },
  showNetwork: (net) => {
    if (network !== net) {
      render(nothing, table);
      render(nothing, flame);
    }
    network = net;
  },
};

/** Times a run on this engine, or on both. */
async function measure(onBoth: boolean, isCurrent: IsCurrent): Promise<void> {
  const { net, picture } = view;
  const timed = async (of: GoogLeNet): Promise<TimedRun> => {
    await of.profile(true);
    await of.classify(picture);
    return { engine: engineName(of.info), steps: await of.profile(false) };
  };
  const runs = [await timed(net)];
  if (onBoth) {
    await view.withOtherEngine(async (other) => {
      // The first run of an engine takes longer than the following ones.
      await other.classify(picture);
      runs.push(await timed(other));
    });
  }
  if (!isCurrent()) return;
  show(net, runs);
  await view.showTimes(runs[0]!.steps, isCurrent);
}

/** Shows the times of a run, or of a run on each engine, as flame charts and step by step. */
function show({ layers }: GoogLeNet, runs: TimedRun[]): void {
  const byName = new Map(layers.map((layer) => [layer.layer, layer]));
  const macs = layers.reduce((sum, layer) => sum + layer.macs, 0);
  const totals = runs.map(({ steps }) => steps.reduce((sum, { ms }) => sum + ms, 0));
  // An engine may fuse layers that are steps of their own on the other.
  const order = layers.map(({ layer }) => layer).filter((layer) => runs.some(({ steps }) => steps.some(({ node }) => node === layer)));
  const longest = Math.max(...runs[0]!.steps.map(({ ms }) => ms), 1e-9);
  const rows = order.map((node): Cell[] => {
    const steps = runs.map((run) => run.steps.find((step) => step.node === node));
    const times = steps.flatMap((step, at): Cell[] => {
      const part = step ? percent(step.ms / totals[at]!) : '';
      return [step?.ms.toFixed(2) ?? '', at > 0 ? part : html`<td class="bar" ${share('--part', (step?.ms ?? 0) / longest)}>${part}</td>`];
    });
    return [node, steps[0]?.algorithm ?? byName.get(node)?.kind ?? '', ...times, percent((byName.get(node)?.macs ?? 0) / macs)];
  });
  const heads = runs.flatMap(({ engine }) => [`${engine}, ms`, 'Of its time']);
  fillTable(table, ['Step', 'How', ...heads, 'Of the multiply-adds'], rows);
  render(runs.map((run, at) => chart(run, totals[at]!, byName)), flame);
  total.textContent = runs
    .map(({ engine, steps }, at) => (steps.length > 0 ? `${engine}: ${totals[at]!.toFixed(1)} ms in ${steps.length} steps` : `${engine} does not measure its steps`))
    .join('; ');
}

/**
 * Draws a flame chart: the modules over their steps, each as wide as its time, in the order of the run. The times of
 * several threads are added up.
 */
function chart({ engine, steps }: TimedRun, total: number, byName: Map<string, Layer>): TemplateResult {
  const blocks: { name: string; ms: number; steps: StepTime[] }[] = [];
  for (const step of steps) {
    const name = byName.get(step.node)?.module?.replace('inception_', '') ?? step.node.replace(/[/_].*/, '');
    let block = blocks.at(-1);
    if (block?.name !== name) blocks.push((block = { name, ms: 0, steps: [] }));
    block.ms += step.ms;
    block.steps.push(step);
  }
  const title = (name: string, ms: number) => `${name}: ${ms.toFixed(2)} ms, ${percent(ms / total)}`;
  const stepBar = ({ node, ms }: StepTime) => {
    return html`<span class="step of-${byName.get(node)?.branch ?? 'none'}" title=${title(node, ms)} ${share('--part', ms)}></span>`;
  };
  const moduleBar = ({ name, ms, steps }: (typeof blocks)[number]) => html`<div class="block" title=${title(name, ms)} ${share('--part', ms / total)}>
    <span class="block-name">${name}</span><span class="steps">${steps.map(stepBar)}</span>
  </div>`;
  const longest = [...blocks].sort((a, b) => b.ms - a.ms).slice(0, 3).map(({ name, ms }) => `${name} ${percent(ms / total)}`);
  return html`<div>
    <p class="soft">${engine}</p>
    <div class="flame" role="img" aria-label="Time on ${engine}: most in ${longest.join(', ')}">${blocks.map(moduleBar)}</div>
  </div>`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

// The tab "Ablation": how the answer's probability changes when each branch is switched off in turn.

import type { Class, Layer } from 'googlenet-web';
import { html, nothing, render } from 'lit-html';
import { byId, share } from '../dom';
import { names, percent, signed } from '../format';
import type { IsCurrent, Tab, View } from './tab';

const table = byId('matrix', HTMLTableElement);
const start = byId('matrix-run', HTMLButtonElement);
const bar = byId('matrix-bar', HTMLProgressElement);
const progress = byId('matrix-progress', HTMLElement);

/** The branches of a module, which are the rows of the table. */
const BRANCHES = ['1x1', '3x3', '5x5', 'pool'];

let view: View;
let isRunning = false;

export const ablation: Tab = {
  panel: 'ablation',
  label: 'Ablation',
  connect: (section) => {
    view = section;
    start.addEventListener('click', () => view.run(run));
  },
  clear: () => render(nothing, table),
  interrupt: () => {
    // The network runs calls in order, so that this one comes before the picture.
    if (isRunning) view.net.ablate({}).catch(() => {});
  },
};

/** Switches each branch off and on again. The gains in force are restored at the end. */
async function run(isCurrent: IsCurrent): Promise<void> {
  const { net } = view;
  const { top: [first] } = await net.ablate({});
  if (!first) return;
  const outputs = net.layers.filter(({ layer, module }) => module && layer.endsWith('/output'));
  const changes = BRANCHES.map((): number[] => []);
  draw(first, outputs, changes);
  start.disabled = true;
  bar.hidden = false;
  bar.max = outputs.length * BRANCHES.length;
  isRunning = true;
  try {
    let done = 0;
    for (const { inputs } of outputs) {
      for (const [row, input] of inputs.entries()) {
        const result = await net.ablate({ [input]: 0 }, { top: net.info.classes });
        if (!isCurrent()) return;
        const now = result.top.find(({ index }) => index === first.index)?.probability ?? 0;
        changes[row]!.push((now - first.probability) * 100);
        draw(first, outputs, changes);
        bar.value = ++done;
        progress.textContent = `${done} of ${bar.max}`;
      }
    }
    progress.textContent = '';
  } finally {
    isRunning = false;
    start.disabled = false;
    bar.hidden = true;
    if (!net.closed) await net.ablate(view.gains);
  }
}

/** Draws the changes that are known so far, in percentage points: a row for each branch, a column for each module. */
function draw({ label, probability }: Class, outputs: Layer[], changes: number[][]): void {
  const head = ['Without', ...outputs.map(({ module }) => module!.replace('inception_', ''))];
  const cell = (change: number) => {
    const part = Math.min(1, Math.abs(change) / 50);
    return html`<td class="number ${change < 0 ? 'less' : 'more'}" ${share('--part', part)}>${signed(change, 1)}</td>`;
  };
  render(
    html`
      <caption>Change of ${names(label)[0]}, ${percent(probability)}, in percentage points</caption>
      <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${BRANCHES.map((branch, at) => html`<tr><th scope="row">${branch}</th>${changes[at]!.map(cell)}</tr>`)}</tbody>
    `,
    table,
  );
}

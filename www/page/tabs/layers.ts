// The tab "Layers": a table of every layer, which can be sorted by each column.

import type { GoogLeNet } from 'googlenet-web';
import { byId } from '../dom';
import { copy, save } from '../inside/save';
import { fillTable, type Cell } from './table';
import type { Tab, View } from './tab';

const table = byId('layers', HTMLTableElement);

const TITLES = ['Layer', 'Kind', 'Output', 'Parameters', 'Multiply-adds', 'Receptive field', 'Reads'];

let view: View;
/** The column by which the table is sorted; -1 for the order of the network. */
let sortedBy = -1;

export const layers: Tab = {
  panel: 'all-layers',
  label: 'Layers',
  connect: (section) => {
    view = section;
    const copyButton = byId('copy-layers', HTMLButtonElement);
    copyButton.addEventListener('click', () => copy(view.net.summary(), copyButton));
    byId('save-answer', HTMLButtonElement).addEventListener('click', saveAnswer);
  },
  showNetwork: draw,
};

function draw(net: GoogLeNet): void {
  const rows = net.layers.map(({ layer, kind, shape, params, macs, field, inputs }): Cell[] => {
    return [layer, kind, shape.join('x'), params, macs, field[0], inputs.join(', ')];
  });
  if (sortedBy >= 0) {
    rows.sort((a, b) => {
      const [x, y] = [a[sortedBy]!, b[sortedBy]!];
      return typeof x === 'number' && typeof y === 'number' ? y - x : String(x).localeCompare(String(y), 'en', { numeric: true });
    });
  }
  const choose = (column: number) => {
    sortedBy = sortedBy === column ? -1 : column;
    draw(net);
  };
  fillTable(table, TITLES, rows, { by: sortedBy, choose });
}

/** Saves the whole answer, and what it was computed with. */
function saveAnswer(): void {
  const { net: { info }, gains, answer } = view;
  const text = JSON.stringify({ model: info.model, backend: info.backend, gains, ...answer }, null, 2);
  save(new Blob([text], { type: 'application/json' }), 'answer.json');
}

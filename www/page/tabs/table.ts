// Fills a table of a tab.

import { html, nothing, render, type TemplateResult } from 'lit-html';

/** A cell: its text, its number, or the cell itself. */
export type Cell = string | number | TemplateResult;

/** The column by which a table is sorted, or -1, and what happens when the heading of a column is pressed. */
interface Sorting {
  by: number;
  choose: (column: number) => void;
}

/** Fills a table. With a sorting, its headings are buttons. */
export function fillTable(table: HTMLTableElement, titles: string[], rows: Cell[][], sorting?: Sorting): void {
  const head = (title: string, column: number) => {
    const order = typeof rows[0]?.[column] === 'number' ? 'descending' : 'ascending';
    const button = sorting && html`<button type="button" @click=${() => sorting.choose(column)}>${title}</button>`;
    return html`<th scope="col" aria-sort=${column === sorting?.by ? order : nothing}>${button ?? title}</th>`;
  };
  const cell = (value: Cell) => {
    if (typeof value === 'number') return html`<td class="number">${value.toLocaleString('en')}</td>`;
    return typeof value === 'string' ? html`<td>${value}</td>` : value;
  };
  const body = rows.map((row) => html`<tr>${row.map(cell)}</tr>`);
  render(html`<thead><tr>${titles.map(head)}</tr></thead><tbody>${body}</tbody>`, table);
}

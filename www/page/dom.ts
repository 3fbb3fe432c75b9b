import { noChange, render, type TemplateResult } from 'lit-html';
import { Directive, directive, type DirectiveParameters, type ElementPart } from 'lit-html/directive.js';

/** An element of index.html by its id. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return found;
}

/** A template's canvas, to be drawn to before it is put on the page. */
export function canvas(template: TemplateResult): HTMLCanvasElement {
  const made = new DocumentFragment();
  render(template, made);
  return made.firstElementChild as HTMLCanvasElement;
}

class Share extends Directive {
  render(_property: string, _value: number): typeof noChange {
    return noChange;
  }

  override update({ element }: ElementPart, [property, value]: DirectiveParameters<this>): typeof noChange {
    (element as HTMLElement).style.setProperty(property, String(value));
    return noChange;
  }
}

/** Gives a template's element a number for its style. The page's policy allows no style attributes. */
export const share = directive(Share);

// Helpers for elements and templates.

import { noChange, render, type TemplateResult } from 'lit-html';
import { Directive, directive, type DirectiveParameters, type ElementPart } from 'lit-html/directive.js';

/** Returns the element of index.html with an id. Throws where there is none of that kind. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return found;
}

/** Creates the canvas of a template, so that it can be drawn to before it is on the page. */
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

/** Sets a custom property of a template's element. The page's security policy forbids style attributes. */
export const share = directive(Share);

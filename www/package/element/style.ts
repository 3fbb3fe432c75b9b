/** The element's style sheet. A page changes it through custom properties and parts. */
export const STYLE = `
:host {
  --ink: var(--googlenet-ink, light-dark(#1d1c1a, #f0ede6));
  --soft: var(--googlenet-soft, light-dark(#66625b, #a5a096));
  --paper: var(--googlenet-paper, light-dark(#ffffff, #1f1e1c));
  --line: var(--googlenet-line, light-dark(#8f897e, #76716a));
  --track: var(--googlenet-track, light-dark(#ece9e2, #302e2a));
  --accent: var(--googlenet-accent, light-dark(#0d6b62, #57c2b2));
  --alert: var(--googlenet-alert, light-dark(#8c2b13, #ffb7a1));
  --radius: var(--googlenet-radius, 14px);
  display: block;
  container-type: inline-size;
  color: var(--ink);
  font: var(--googlenet-font, 16px/1.5 system-ui, sans-serif);
}
:host([hidden]), [hidden] { display: none !important; }
*, ::before { box-sizing: border-box; }
.frame { display: grid; grid-template-columns: minmax(0, 1fr); gap: 20px; padding: 20px; background: var(--paper); border-radius: var(--radius); }
.drop { position: relative; display: grid; aspect-ratio: 1; width: 100%; max-width: 480px; padding: 0; border: 2px dashed var(--line); border-radius: var(--radius); background: none; color: inherit; font: inherit; cursor: pointer; overflow: hidden; place-items: center; }
.drop > * { grid-area: 1 / 1; }
.drop.over { border-color: var(--accent); border-style: solid; }
.drop.full { border-color: transparent; }
.hint { padding: 16px; color: var(--soft); text-align: center; }
.hint b { display: block; color: var(--ink); font-size: 1.25em; }
.picture { width: 100%; height: 100%; object-fit: cover; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.answer { position: relative; min-width: 0; }
ol:empty + .status { margin-top: 0; }
.said { position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden; clip-path: inset(50%); }
.status { margin: 14px 0 10px; color: var(--soft); font-size: 0.9em; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.status.bad { color: var(--alert); }
progress { display: block; width: 100%; height: 6px; margin-bottom: 10px; accent-color: var(--accent); }
ol { list-style: none; display: grid; gap: 12px; margin: 0; padding: 0; }
li { display: grid; grid-template: "name share" auto "track track" 8px / minmax(0, 1fr) auto; gap: 4px 16px; align-items: baseline; }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.share { font-variant-numeric: tabular-nums; }
li:first-child :is(.name, .share) { font-size: 1.5em; font-weight: 650; line-height: 1.25; white-space: normal; }
.track { grid-area: track; align-self: stretch; border-radius: 4px; background: var(--track); overflow: hidden; }
.fill { height: 100%; width: calc(var(--part) * 100%); min-width: 3px; border-radius: 4px; background: var(--accent); transition: width 0.3s ease-out; }
ol.busy { opacity: 0.5; }
.branches { grid-column: 1 / -1; min-width: 0; }
.module { display: flex; align-items: center; gap: 8px; margin-bottom: 12px; color: var(--soft); }
select { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 4px 8px; }
.lanes { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
figure { margin: 0; min-width: 0; }
figcaption { margin-bottom: 4px; color: var(--soft); font-size: 0.9em; }
figcaption b { color: var(--ink); }
.tiles { display: block; width: 100%; image-rendering: pixelated; border-radius: 6px; }
@container (min-width: 620px) {
  .frame { grid-template-columns: minmax(0, 9fr) minmax(0, 10fr); align-items: start; }
  .lanes { grid-template-columns: repeat(4, minmax(0, 1fr)); }
}
@media (prefers-reduced-motion: reduce) { .fill { transition: none; } }
`;

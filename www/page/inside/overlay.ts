// Draws maps and frames over the picture.

/** A picture as the page shows it: a loaded image, or a frame of the webcam. */
export type Picture = HTMLImageElement | HTMLCanvasElement;

/** A map, its opacity, and the picture below it, if that can be drawn. */
interface Layers {
  picture: Picture | undefined;
  map: HTMLCanvasElement;
  alpha: number;
}

/** Draws a map over the square of the picture that the network sees. */
export function overlay(canvas: HTMLCanvasElement, { picture, map, alpha }: Layers): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  const [across, down] = picture instanceof HTMLImageElement ? [picture.naturalWidth, picture.naturalHeight] : [picture?.width ?? 0, picture?.height ?? 0];
  if (picture && across > 0) {
    const side = Math.min(across, down);
    context.drawImage(picture, (across - side) / 2, (down - side) / 2, side, side, 0, 0, width, height);
  }
  context.globalAlpha = alpha;
  context.imageSmoothingQuality = 'high';
  context.drawImage(map, 0, 0, width, height);
  context.globalAlpha = 1;
}

/** A rectangle, in fractions of the canvas's size. */
interface Rectangle {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** Draws a frame around a part of a canvas. */
export function frame(canvas: HTMLCanvasElement, part: Rectangle): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const { width, height } = canvas;
  // White on black is visible on any picture.
  for (const [colour, line] of [['#000', 4], ['#fff', 2]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(part.left * width + 1, part.top * height + 1, part.width * width - 2, part.height * height - 2);
  }
}

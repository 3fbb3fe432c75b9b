// The picture under a map.

/** A picture as the page shows it: a loaded image, or a frame of the webcam. */
export type Shown = HTMLImageElement | HTMLCanvasElement;

/** A map over the square of the picture that the network saw. */
export function overlay(canvas: HTMLCanvasElement, picture: Shown | undefined, map: HTMLCanvasElement, alpha: number): void {
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

/** A frame around a part, in shares of the whole. */
export function frame(canvas: HTMLCanvasElement, left: number, top: number, across: number, down: number): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const { width, height } = canvas;
  // Light on dark, so that it is seen on any picture.
  for (const [colour, line] of [['#000', 4], ['#fff', 2]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(left * width + 1, top * height + 1, across * width - 2, down * height - 2);
  }
}

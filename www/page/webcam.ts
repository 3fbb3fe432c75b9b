// The webcam: one frame after the other, as fast as they are answered; what comes meanwhile is dropped.

import { byId } from './dom';

const video = byId('video', HTMLVideoElement);
const button = byId('webcam', HTMLButtonElement);
const rate = byId('rate', HTMLElement);

let stream: MediaStream | undefined;
const frame = document.createElement('canvas');

/**
 * Calls back with each frame, the next only once the last is dealt with; with the last frame as a file when the
 * webcam is switched off; and with what went wrong.
 */
export function listen(seen: (frame: HTMLCanvasElement) => Promise<void>, ended: (last: File | undefined) => void, refuse: (why: Error) => void): void {
  button.addEventListener('click', async () => {
    if (stream) return stop(ended);
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: 'environment' } });
    } catch (cause) {
      return refuse(new Error(reason(cause), { cause }));
    }
    stream.getVideoTracks()[0]?.addEventListener('ended', () => stop(ended));
    video.srcObject = stream;
    video.hidden = false;
    rate.hidden = false;
    label(true);
    try {
      await video.play();
      await loop(stream, seen);
    } catch (cause) {
      stop(ended);
      refuse(cause instanceof Error ? cause : new Error(String(cause)));
    }
  });
}

/** Whether it is on. */
export function on(): boolean {
  return stream !== undefined;
}

/** Switches it off, without a last frame. */
export function off(): void {
  if (stream) stop(() => {});
}

async function loop(mine: MediaStream, seen: (frame: HTMLCanvasElement) => Promise<void>): Promise<void> {
  let then = performance.now();
  let mean = 0;
  while (stream === mine) {
    await new Promise<void>((resolve) => ('requestVideoFrameCallback' in video ? video.requestVideoFrameCallback(() => resolve()) : requestAnimationFrame(() => resolve())));
    if (stream !== mine) return;
    if (video.videoWidth === 0) continue;
    frame.width = video.videoWidth;
    frame.height = video.videoHeight;
    frame.getContext('2d', { willReadFrequently: true })?.drawImage(video, 0, 0);
    await seen(frame);
    const now = performance.now();
    mean = mean === 0 ? now - then : mean * 0.8 + (now - then) * 0.2;
    then = now;
    rate.textContent = `${(1000 / mean).toFixed(mean > 200 ? 1 : 0)} pictures a second`;
  }
}

function stop(ended: (last: File | undefined) => void): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = undefined;
  video.srcObject = null;
  video.hidden = true;
  rate.hidden = true;
  label(false);
  if (frame.width === 0) return ended(undefined);
  frame.toBlob((blob) => ended(blob ? new File([blob], 'webcam.png', { type: 'image/png' }) : undefined));
}

function label(live: boolean): void {
  button.textContent = live ? 'Stop the webcam' : 'Webcam';
  button.setAttribute('aria-pressed', String(live));
}

function reason(cause: unknown): string {
  const name = cause instanceof DOMException ? cause.name : '';
  if (name === 'NotAllowedError') return 'The browser does not let this page use the webcam.';
  if (name === 'NotFoundError') return 'There is no webcam.';
  if (name === 'NotReadableError') return 'The webcam is in use by another program.';
  return 'The webcam cannot be used here.';
}

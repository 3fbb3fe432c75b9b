// The webcam. Frames are classified one by one; those that come meanwhile are skipped.

import { byId } from './dom';

const video = byId('video', HTMLVideoElement);
const button = byId('webcam', HTMLButtonElement);
const rate = byId('rate', HTMLElement);

let stream: MediaStream | undefined;
const frame = document.createElement('canvas');

/** The callbacks of the webcam. */
interface Callbacks {
  /** Is called with a frame. The next frame is taken when this has ended. */
  onFrame: (frame: HTMLCanvasElement) => Promise<void>;
  /** Is called with the last frame when the webcam is switched off. */
  onEnd: (last: File | undefined) => void;
  onError: (error: Error) => void;
}

/** Connects the webcam's button. */
export function connect({ onFrame, onEnd, onError }: Callbacks): void {
  button.addEventListener('click', async () => {
    if (stream) return stop(onEnd);
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: 'environment' } });
    } catch (cause) {
      return onError(new Error(reason(cause), { cause }));
    }
    stream.getVideoTracks()[0]?.addEventListener('ended', () => stop(onEnd));
    video.srcObject = stream;
    video.hidden = false;
    rate.hidden = false;
    label(true);
    try {
      await video.play();
      await loop(stream, onFrame);
    } catch (cause) {
      stop(onEnd);
      onError(cause instanceof Error ? cause : new Error(String(cause)));
    }
  });
}

/** Says whether the webcam is on. */
export function isOn(): boolean {
  return stream !== undefined;
}

/** Switches the webcam off, without calling back. */
export function switchOff(): void {
  if (stream) stop(() => {});
}

/** Takes frames as long as this stream is the webcam's, and shows their rate. */
async function loop(mine: MediaStream, onFrame: (frame: HTMLCanvasElement) => Promise<void>): Promise<void> {
  let then = performance.now();
  let mean = 0;
  while (stream === mine) {
    await new Promise<void>((resolve) => ('requestVideoFrameCallback' in video ? video.requestVideoFrameCallback(() => resolve()) : requestAnimationFrame(() => resolve())));
    if (stream !== mine) return;
    if (video.videoWidth === 0) continue;
    frame.width = video.videoWidth;
    frame.height = video.videoHeight;
    frame.getContext('2d', { willReadFrequently: true })?.drawImage(video, 0, 0);
    await onFrame(frame);
    const now = performance.now();
    mean = mean === 0 ? now - then : mean * 0.8 + (now - then) * 0.2;
    then = now;
    rate.textContent = `${(1000 / mean).toFixed(mean > 200 ? 1 : 0)} pictures a second`;
  }
}

function stop(onEnd: (last: File | undefined) => void): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = undefined;
  video.srcObject = null;
  video.hidden = true;
  rate.hidden = true;
  label(false);
  if (frame.width === 0) return onEnd(undefined);
  frame.toBlob((blob) => onEnd(blob ? new File([blob], 'webcam.png', { type: 'image/png' }) : undefined));
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

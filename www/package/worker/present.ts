// A sheet of tiles from the GPU's memory to a bitmap, which another thread can draw: nothing is read back.

/** A sheet as the engine leaves it on the GPU. */
export interface Resident {
  device: GPUDevice;
  /** Rows of RGBA, `pitch` bytes apart. */
  pixels: GPUBuffer;
  pitch: number;
  width: number;
  height: number;
}

/** `GPUTextureUsage.COPY_DST`, which TypeScript does not know. */
const COPY_DST = 2;

let context: GPUCanvasContext | null | undefined;

/** Whether there is a canvas that takes what a GPU has. */
export function presents(): boolean {
  if (context === undefined) {
    const canvas = globalThis.OffscreenCanvas && new OffscreenCanvas(1, 1);
    context = (canvas?.getContext('webgpu' as OffscreenRenderingContextId) ?? null) as GPUCanvasContext | null;
  }
  return context !== null;
}

/**
 * The sheet, which is gone from the GPU's memory then. Only where `presents` says so; none where the browser cannot after
 * all, which is not tried again.
 */
export function present({ device, pixels, pitch, width, height }: Resident): ImageBitmap | undefined {
  try {
    const canvas = context!.canvas as OffscreenCanvas;
    Object.assign(canvas, { width, height });
    // Gaps are clear black, all else is opaque: the same in either mode that a canvas may have.
    context!.configure({ device, format: 'rgba8unorm', usage: COPY_DST, alphaMode: 'premultiplied' });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToTexture({ buffer: pixels, bytesPerRow: pitch }, { texture: context!.getCurrentTexture() }, [width, height]);
    device.queue.submit([encoder.finish()]);
    return canvas.transferToImageBitmap();
  } catch (error) {
    console.warn('GoogLeNet reads its tiles back:', error);
    context = null;
    return undefined;
  } finally {
    pixels.destroy();
  }
}

// Copies a contact sheet from the GPU's memory to a bitmap, which another thread can draw. Nothing is read back.

/** A contact sheet in a buffer of the GPU. */
export interface SheetOnGpu {
  device: GPUDevice;
  /** Rows of RGBA bytes; each row begins `pitch` bytes after the one before it. */
  pixels: GPUBuffer;
  pitch: number;
  width: number;
  height: number;
}

/** `GPUTextureUsage.COPY_DST`, which TypeScript does not declare. */
const COPY_DST = 2;

let context: GPUCanvasContext | null | undefined;

/** Says whether there is a canvas to which the GPU can copy. */
export function hasGpuCanvas(): boolean {
  if (context === undefined) {
    const canvas = globalThis.OffscreenCanvas && new OffscreenCanvas(1, 1);
    context = (canvas?.getContext('webgpu' as OffscreenRenderingContextId) ?? null) as GPUCanvasContext | null;
  }
  return context !== null;
}

/**
 * Copies a sheet to a bitmap, and frees its buffer. May be called only where {@link hasGpuCanvas} says so. Returns
 * undefined where the browser cannot copy after all; it is not tried again then.
 */
export function toBitmap({ device, pixels, pitch, width, height }: SheetOnGpu): ImageBitmap | undefined {
  try {
    const canvas = context!.canvas as OffscreenCanvas;
    Object.assign(canvas, { width, height });
    // Gaps are transparent black and everything else is opaque, so that both alpha modes would give the same.
    context!.configure({ device, format: 'rgba8unorm', usage: COPY_DST, alphaMode: 'premultiplied' });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToTexture({ buffer: pixels, bytesPerRow: pitch }, { texture: context!.getCurrentTexture() }, [width, height]);
    device.queue.submit([encoder.finish()]);
    return canvas.transferToImageBitmap();
  } catch (error) {
    console.warn('GoogLeNet reads contact sheets back from the GPU:', error);
    context = null;
    return undefined;
  } finally {
    pixels.destroy();
  }
}

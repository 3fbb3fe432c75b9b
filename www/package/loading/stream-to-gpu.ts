// Uploads a model file to the GPU while it is downloaded.

import { concatenate } from './bytes.js';
import type { PreparedGpu } from './engines.js';

/** A file that is being downloaded. */
export interface PartialFile {
  chunks: Uint8Array[];
  /** The bytes that have come so far. */
  loaded: number;
  /** The file's length in bytes, where the server announces it. */
  total: number | undefined;
}

/** The bytes that make an upload worth its cost. */
const MIN_UPLOAD = 1 << 20;

/** The longest announced length that is believed before the file is there: five times that of BVLC's with its heads. */
const MAX_LENGTH = 256 << 20;

/** Hands the pieces of a file to a GPU, in order and one upload at a time. */
export class GpuStream {
  readonly #heads: boolean;
  readonly #auto: boolean;
  #gpu: PreparedGpu | undefined;
  #ended = false;
  #file: PartialFile | undefined;
  /** The array of chunks that uploads were taken from, how many of its chunks were uploaded, and their bytes. */
  #chunks: Uint8Array[] | undefined;
  #count = 0;
  #bytes = 0;
  #last = Promise.resolve();

  /** `auto` says whether a software adapter is refused; `heads` whether the auxiliary heads are uploaded. */
  constructor(gpu: Promise<PreparedGpu | undefined>, { heads, auto }: { heads: boolean; auto: boolean }) {
    [this.#heads, this.#auto] = [heads, auto];
    void gpu.then((gpu) => {
      // After the end the engine uses the GPU.
      if (this.#ended) return;
      this.#gpu = gpu;
      this.#continue();
    });
  }

  /** Takes note of what has been downloaded. */
  update(file: PartialFile): void {
    this.#file = file;
    this.#continue();
  }

  /**
   * Finishes the upload in progress, and uploads nothing after that. Resolves to whether the GPU has all of the file.
   */
  async end(): Promise<boolean> {
    this.#ended = true;
    await this.#last;
    const { loaded, total } = this.#file ?? {};
    if (loaded === total && this.#uploaded !== total) await this.#upload();
    const whole = this.#gpu !== undefined && this.#uploaded > 0 && this.#uploaded === total;
    this.#gpu = undefined;
    return whole;
  }

  /** The bytes of the file that were uploaded: none where the download has started again. */
  get #uploaded(): number {
    return this.#file?.chunks === this.#chunks ? this.#bytes : 0;
  }

  #continue(): void {
    this.#last = this.#last.then(async () => {
      if (!this.#ended && (this.#file?.loaded ?? 0) - this.#uploaded >= MIN_UPLOAD) await this.#upload();
    });
  }

  /** Uploads what has come since the last upload. */
  async #upload(): Promise<void> {
    const { chunks, total = 0 } = this.#file ?? {};
    if (!this.#gpu || !chunks || !total || total > MAX_LENGTH) return;
    if (chunks !== this.#chunks) [this.#chunks, this.#count, this.#bytes] = [chunks, 0, 0];
    const fresh = chunks.slice(this.#count);
    const bytes = concatenate(fresh);
    try {
      if (!(await this.#gpu.take(bytes, this.#bytes, total, this.#heads, this.#auto))) this.#gpu = undefined;
    } catch {
      // Loading the whole file reports what is wrong with it.
      this.#gpu = undefined;
    }
    this.#count += fresh.length;
    this.#bytes += bytes.length;
  }
}

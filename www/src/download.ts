import { GoogLeNetError } from './errors';
import type { Progress } from './protocol';

/** The bytes of a model file, with word of how far it is. */
export async function download(model: string | Blob, report: (p: Progress) => void): Promise<Uint8Array> {
  if (model instanceof Blob) {
    return new Uint8Array(await model.arrayBuffer());
  }
  const response = await fetch(model).catch((cause: unknown) => {
    throw failed(model, cause instanceof Error ? cause.message : String(cause));
  });
  if (!response.ok || !response.body) {
    throw failed(model, `the server answered ${response.status}`);
  }
  const total = announced(response);
  const chunks: Uint8Array[] = [];
  let loaded = 0;
  report({ stage: 'download', loaded, total });
  try {
    for await (const chunk of stream(response.body)) {
      chunks.push(chunk);
      loaded += chunk.length;
      report({ stage: 'download', loaded, total });
    }
  } catch (cause) {
    throw failed(model, `the connection broke after ${loaded} bytes (${String(cause)})`);
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** The length the server announced; it says nothing where the body is compressed on the way. */
function announced(response: Response): number | undefined {
  const length = Number(response.headers.get('content-length'));
  return length > 0 && !response.headers.has('content-encoding') ? length : undefined;
}

/** A body's chunks. Not every browser can iterate over a stream. */
async function* stream(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

function failed(url: string, reason: string): GoogLeNetError {
  return new GoogLeNetError({
    code: 'download',
    detail: url,
    message: `The model could not be downloaded from ${url}: ${reason}. Check the connection and try again.`,
  });
}

// A model file's bytes: from the cache, or downloaded, over several connections if need be, and checked.

import type { Coming } from './upload.js';
import { joined } from './bytes.js';
import { GoogLeNetError } from '../api/errors.js';
import { readFile } from './node.js';
import type { Progress } from '../api/types.js';

type Report = (progress: Progress) => void;
type Come = (file: Coming) => void;

/** Cache Storage's name for what is kept here. */
const CACHE = 'googlenet-web';
/** So often a connection may break without having brought a byte. */
const TRIES = 5;
/** Milliseconds before the second try; each further one waits twice as long. */
const PAUSE = 500;
/** Milliseconds without a byte after which a connection counts as broken. */
const STALL = 30_000;
/** Answers that may be another one soon. */
const PASSING = [408, 425, 429, 500, 502, 503, 504];

/** What has come of a file so far. */
interface Partial extends Coming {
  /** What tells that the file is still the same. */
  tag: string | null;
}

/** The bytes of a file, whose SHA-256 is in hex; with word of how far it is, and of what has `come`. */
export async function download(
  url: string,
  sha256: string | undefined,
  report: Report,
  signal: AbortSignal,
  come: Come,
): Promise<Uint8Array> {
  if (url.startsWith('file:')) return checked(await readFile(new URL(url)).catch(broken(url)), url, sha256);
  const kept = sha256 && (await cached(sha256));
  if (kept) {
    report({ phase: 'download', loaded: kept.length, total: kept.length });
    return kept;
  }
  const bytes = await fetched(url, {}, report, signal, come);
  try {
    await checked(bytes, url, sha256);
  } catch {
    // It may be an older file out of the browser's own cache.
    const fresh = await fetched(url, { cache: 'reload' }, report, signal, come);
    await checked(fresh, url, sha256);
    return keep(fresh, sha256);
  }
  return keep(bytes, sha256);
}

/** Downloads a file; a connection that breaks is followed by another that goes on where it ended. */
async function fetched(url: string, init: RequestInit, report: Report, signal: AbortSignal, come: Come): Promise<Uint8Array> {
  const file: Partial = { chunks: [], loaded: 0, total: undefined, tag: null };
  for (let tries = 1; ; tries++) {
    const before = file.loaded;
    try {
      await connect(url, init, file, signal, () => {
        report({ phase: 'download', loaded: file.loaded, total: file.total });
        come(file);
      });
      return joined(file.chunks);
    } catch (cause) {
      if (signal.aborted || cause instanceof GoogLeNetError) throw cause;
      if (file.loaded > before) tries = 1;
      if (tries >= TRIES) throw failed(url, reason(cause, file), cause);
      await pause(PAUSE * 2 ** (tries - 1), signal);
    }
  }
}

/** Takes what a connection brings. Throws our own error where another connection will not help. */
async function connect(url: string, init: RequestInit, file: Partial, signal: AbortSignal, more: () => void): Promise<void> {
  const ended = new AbortController();
  const end = () => ended.abort(signal.reason);
  signal.addEventListener('abort', end);
  const watch = () => setTimeout(() => ended.abort(new Error(`nothing came for ${STALL / 1000} seconds`)), STALL);
  let timer = watch();
  try {
    const headers = new Headers(init.headers);
    if (file.loaded > 0) headers.set('Range', `bytes=${file.loaded}-`);
    const response = await fetch(url, { ...init, headers, signal: ended.signal });
    if (PASSING.includes(response.status)) throw new Error(`the server answered ${response.status}`);
    if (!response.ok || !response.body) throw failed(url, `the server answered ${response.status}`);
    begin(response, file);
    more();
    for await (const chunk of stream(response.body)) {
      clearTimeout(timer);
      timer = watch();
      file.chunks.push(chunk);
      file.loaded += chunk.length;
      more();
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
  }
  if (file.total !== undefined && file.loaded < file.total) throw new Error('the connection broke');
}

/** Makes a file ready for an answer's body: to go on, or to start afresh where the server does not. */
function begin(response: Response, file: Partial): void {
  const tag = response.headers.get('etag') ?? response.headers.get('last-modified');
  const [, from] = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '') ?? [];
  // A site that is not this page's may hide the header.
  const follows = response.status === 206 && (from === undefined || Number(from) === file.loaded) && tag === file.tag;
  if (follows) return;
  Object.assign(file, { chunks: [], loaded: 0, total: announced(response), tag } satisfies Partial);
  if (response.status === 206) throw new Error('the file changed while it was downloaded');
}

/** The length that the server announced; it says nothing where the body is compressed on the way. */
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

/** The bytes, if they are what the hash says. */
async function checked(bytes: Uint8Array, url: string, sha256: string | undefined): Promise<Uint8Array> {
  // Browsers have no digest on pages that came unencrypted, where it would prove nothing.
  if (sha256 === undefined || !globalThis.crypto?.subtle) return bytes;
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>);
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (hex === sha256.toLowerCase()) return bytes;
  const message = `What was downloaded from ${url} is not the model that was asked for: its SHA-256 is ${hex}.`;
  throw new GoogLeNetError({ code: 'integrity', detail: url, message });
}

/** A cache's key is an address; this one is asked of no server. */
const key = (sha256: string) => `https://googlenet-web.invalid/sha256/${sha256.toLowerCase()}`;

/** The cache, where the browser lets this page have one. */
async function storage(): Promise<Cache | undefined> {
  return globalThis.caches?.open(CACHE).catch(() => undefined);
}

async function cached(sha256: string): Promise<Uint8Array | undefined> {
  const cache = await storage();
  const response = await cache?.match(key(sha256)).catch(() => undefined);
  if (!response) return undefined;
  try {
    return await checked(new Uint8Array(await response.arrayBuffer()), 'the cache', sha256);
  } catch {
    await cache?.delete(key(sha256));
    return undefined;
  }
}

/** Keeps the bytes, if there is room, while the network is loaded. */
function keep(bytes: Uint8Array, sha256: string | undefined): Uint8Array {
  const put = async () => {
    const headers = { 'content-length': String(bytes.length) };
    await (await storage())?.put(key(sha256!), new Response(bytes as Uint8Array<ArrayBuffer>, { headers }));
  };
  if (sha256) void put().catch(() => {});
  return bytes;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function reason(cause: unknown, { loaded }: Partial): string {
  const why = cause instanceof Error ? cause.message : String(cause);
  return loaded > 0 ? `${why} after ${loaded} bytes` : why;
}

const broken = (url: string) => (cause: unknown) => {
  throw failed(url, cause instanceof Error ? cause.message : String(cause), cause);
};

function failed(url: string, why: string, cause?: unknown): GoogLeNetError {
  const message = `The model could not be downloaded from ${url}: ${why}. Check the connection and try again.`;
  return new GoogLeNetError({ code: 'download', detail: url, message }, { cause });
}

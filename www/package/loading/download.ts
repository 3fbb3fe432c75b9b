// Fetches a model file: from Cache Storage, or from a server, over several connections if one breaks. Checks its hash.

import { GoogLeNetError } from '../api/errors.js';
import type { Progress } from '../api/types.js';
import { concatenate } from './bytes.js';
import { readFile } from './node.js';
import type { PartialFile } from './stream-to-gpu.js';

/** The name of the cache in Cache Storage. */
const CACHE = 'googlenet-web';
/** The number of connections in a row that may break without bringing a byte. */
const MAX_TRIES = 5;
/** The milliseconds before the second connection; each further one waits twice as long. */
const FIRST_PAUSE = 500;
/** The milliseconds without a byte after which a connection counts as broken. */
const STALL_TIMEOUT = 30_000;
/** The HTTP statuses that are worth another try. */
const TEMPORARY = [408, 425, 429, 500, 502, 503, 504];

/** What to download, and what to call meanwhile. */
export interface DownloadOptions {
  url: string;
  /** The SHA-256 of the file in hex; undefined for a file that is neither checked nor kept. */
  sha256: string | undefined;
  signal: AbortSignal;
  report: (progress: Progress) => void;
  /** Is called with the file whenever more of it has come from the server. */
  onData: (file: PartialFile) => void;
}

/** A download in progress. */
interface Download extends PartialFile {
  /** The ETag or the date of the file, by which a later connection recognises it. */
  tag: string | null;
}

/**
 * Returns the bytes of a file. Throws a `download` error where it cannot be fetched, an `integrity` error where it does
 * not match its hash, and the signal's reason where that is aborted.
 */
export async function download(options: DownloadOptions): Promise<Uint8Array> {
  const { url, sha256, report } = options;
  if (url.startsWith('file:')) return checked(await readFile(new URL(url)).catch(throwFailed(url)), url, sha256);
  const kept = sha256 && (await fromCache(sha256));
  if (kept) {
    report({ phase: 'download', loaded: kept.length, total: kept.length });
    return kept;
  }
  const bytes = await fetchAll(options, {});
  try {
    await checked(bytes, url, sha256);
  } catch {
    // The browser's own HTTP cache may have an older file.
    const fresh = await fetchAll(options, { cache: 'reload' });
    await checked(fresh, url, sha256);
    return keep(fresh, sha256);
  }
  return keep(bytes, sha256);
}

/** Downloads a file. A connection that breaks is followed by another, which continues where it ended. */
async function fetchAll({ url, report, signal, onData }: DownloadOptions, init: RequestInit): Promise<Uint8Array> {
  const file: Download = { chunks: [], loaded: 0, total: undefined, tag: null };
  const onMore = () => {
    report({ phase: 'download', loaded: file.loaded, total: file.total });
    onData(file);
  };
  for (let tries = 1; ; tries++) {
    const before = file.loaded;
    try {
      await connect(file, { url, init, signal, onMore });
      return concatenate(file.chunks);
    } catch (cause) {
      if (signal.aborted || cause instanceof GoogLeNetError) throw cause;
      if (file.loaded > before) tries = 1;
      if (tries >= MAX_TRIES) throw failed(url, reason(cause, file), cause);
      await pause(FIRST_PAUSE * 2 ** (tries - 1), signal);
    }
  }
}

/** How to connect, and what to call whenever more has come. */
interface Connection {
  url: string;
  init: RequestInit;
  signal: AbortSignal;
  onMore: () => void;
}

/** Adds what one connection brings to a file. Throws a GoogLeNetError where another connection would not help. */
async function connect(file: Download, { url, init, signal, onMore }: Connection): Promise<void> {
  const ended = new AbortController();
  const end = () => ended.abort(signal.reason);
  signal.addEventListener('abort', end);
  const startTimer = () => setTimeout(() => ended.abort(new Error(`nothing came for ${STALL_TIMEOUT / 1000} seconds`)), STALL_TIMEOUT);
  let timer = startTimer();
  try {
    const headers = new Headers(init.headers);
    if (file.loaded > 0) headers.set('Range', `bytes=${file.loaded}-`);
    const response = await fetch(url, { ...init, headers, signal: ended.signal });
    if (TEMPORARY.includes(response.status)) throw new Error(`the server answered ${response.status}`);
    if (!response.ok || !response.body) throw failed(url, `the server answered ${response.status}`);
    begin(response, file);
    onMore();
    for await (const chunk of chunks(response.body)) {
      clearTimeout(timer);
      timer = startTimer();
      file.chunks.push(chunk);
      file.loaded += chunk.length;
      onMore();
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
  }
  if (file.total !== undefined && file.loaded < file.total) throw new Error('the connection broke');
}

/** Prepares a file for the body of a response: it continues, or starts again where the server sends all of the file. */
function begin(response: Response, file: Download): void {
  const tag = response.headers.get('etag') ?? response.headers.get('last-modified');
  const [, from] = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '') ?? [];
  // The header may be hidden where the server is of another origin.
  const continues = response.status === 206 && (from === undefined || Number(from) === file.loaded) && tag === file.tag;
  if (continues) return;
  Object.assign(file, { chunks: [], loaded: 0, total: announcedLength(response), tag } satisfies Download);
  if (response.status === 206) throw new Error('the file changed while it was downloaded');
}

/** Returns the length that the server announces. It is unknown where the body is compressed in transit. */
function announcedLength(response: Response): number | undefined {
  const length = Number(response.headers.get('content-length'));
  return length > 0 && !response.headers.has('content-encoding') ? length : undefined;
}

/** Iterates over the chunks of a body. Not every browser can iterate over the stream itself. */
async function* chunks(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Returns the bytes if they match the hash; throws an `integrity` error otherwise. */
async function checked(bytes: Uint8Array, url: string, sha256: string | undefined): Promise<Uint8Array> {
  // On pages that were not sent over an encrypted connection there is no digest, and it would prove nothing.
  if (sha256 === undefined || !globalThis.crypto?.subtle) return bytes;
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>);
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (hex === sha256.toLowerCase()) return bytes;
  const message = `What was downloaded from ${url} is not the model that was asked for: its SHA-256 is ${hex}.`;
  throw new GoogLeNetError({ code: 'integrity', detail: url, message });
}

/** Returns the cache's key of a file. It has the form of an address, from which nothing is ever fetched. */
const key = (sha256: string) => `https://googlenet-web.invalid/sha256/${sha256.toLowerCase()}`;

/** Opens the cache, where the browser lets this page have one. */
async function openCache(): Promise<Cache | undefined> {
  return globalThis.caches?.open(CACHE).catch(() => undefined);
}

/** Returns a file from the cache. One that does not match its hash is removed. */
async function fromCache(sha256: string): Promise<Uint8Array | undefined> {
  const cache = await openCache();
  const response = await cache?.match(key(sha256)).catch(() => undefined);
  if (!response) return undefined;
  try {
    return await checked(new Uint8Array(await response.arrayBuffer()), 'the cache', sha256);
  } catch {
    await cache?.delete(key(sha256));
    return undefined;
  }
}

/** Writes a file with a hash into the cache, if there is room. Returns the bytes without waiting for that. */
function keep(bytes: Uint8Array, sha256: string | undefined): Uint8Array {
  const put = async () => {
    const headers = { 'content-length': String(bytes.length) };
    await (await openCache())?.put(key(sha256!), new Response(bytes as Uint8Array<ArrayBuffer>, { headers }));
  };
  if (sha256) void put().catch(() => {});
  return bytes;
}

/** Waits for some milliseconds. Rejects with the signal's reason where that is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function reason(cause: unknown, { loaded }: Download): string {
  const why = cause instanceof Error ? cause.message : String(cause);
  return loaded > 0 ? `${why} after ${loaded} bytes` : why;
}

/** Returns a handler that throws a `download` error instead of the one that it catches. */
const throwFailed = (url: string) => (cause: unknown) => {
  throw failed(url, cause instanceof Error ? cause.message : String(cause), cause);
};

function failed(url: string, why: string, cause?: unknown): GoogLeNetError {
  const message = `The model could not be downloaded from ${url}: ${why}. Check the connection and try again.`;
  return new GoogLeNetError({ code: 'download', detail: url, message }, { cause });
}

// Downloads over a bad connection: the file is kept, checked, and continued where the connection broke.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, test } from 'node:test';
import { launchChromium } from '../support.mjs';
import { LABEL, at, bare, ready, serve, visit } from './support.mjs';

const SETTING = { timeout: 120_000 };
const FILE = 'cifar10-noheads.safetensors';

describe('downloads', { concurrency: false }, () => {
  let browser, remove, site, page, bytes, behave;
  /** The range of each request, or the file where it has none. */
  let asked = [];

  before(async () => {
    bytes = await readFile(at('models', FILE));
    const project = await bare();
    remove = project.remove;
    site = await serve(project.folder, {
      before: async (request, response, path) => {
        if (!path.endsWith(FILE)) return false;
        asked.push(request.headers.range ?? 'all');
        return behave(request, response);
      },
    });
    browser = await launchChromium();
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await remove?.();
  });
  beforeEach(async () => {
    await page?.context().close();
    page = (await visit(await browser.newContext(), site.url)).page;
    await ready(page);
    asked = [];
    behave = async () => false;
  });

  /** Loads the network and classifies the photograph; returns an error as its code and message. */
  const look = (options = {}) => page.evaluate(async (options) => {
    try {
      const net = await GoogLeNet.load({ heads: false, ...options });
      const { top } = await net.classify('cat.jpg');
      net.free();
      return top[0].label;
    } catch ({ code, message, detail }) {
      return { code, message, detail };
    }
  }, options);

  /** Answers a range, or the whole file, and drops the connection after a number of bytes. */
  const dropping = (after, headers = {}) => async (request, response) => {
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = bytes.subarray(from);
    const range = from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': rest.length, etag: '"1"', ...range, ...headers });
    if (rest.length <= after) response.end(rest);
    else response.write(rest.subarray(0, after), () => setTimeout(() => response.destroy(), 50));
    return true;
  };

  test('weights are kept under their hash, and requested once', SETTING, async () => {
    assert.equal(await look(), LABEL);
    await page.waitForFunction(async () => (await (await caches.open('googlenet-web')).keys()).length === 1);
    const [key] = await page.evaluate(async () => (await (await caches.open('googlenet-web')).keys()).map(({ url }) => url));
    assert.match(key, /sha256\/[0-9a-f]{64}$/);
    await page.reload();
    await ready(page);
    assert.equal(await look(), LABEL);
    assert.deepEqual(asked, ['all']);
  });

  test('a kept file is checked, and fetched again where it is wrong', SETTING, async () => {
    assert.equal(await look(), LABEL);
    await page.waitForFunction(async () => (await (await caches.open('googlenet-web')).keys()).length === 1);
    await page.evaluate(async () => {
      const cache = await caches.open('googlenet-web');
      const [key] = await cache.keys();
      await cache.put(key, new Response(new Uint8Array(100)));
    });
    await page.reload();
    await ready(page);
    assert.equal(await look(), LABEL);
    assert.equal(asked.length, 2);
  });

  test('a connection that breaks is followed by one that continues', SETTING, async () => {
    behave = dropping(4_000_000);
    assert.equal(await look(), LABEL);
    assert.equal(asked[0], 'all');
    assert.ok(asked.length >= 3, String(asked));
    // Chromium also requests an end where it has a part in its own cache.
    const starts = asked.slice(1).map((range) => Number(/^bytes=(\d+)-/.exec(range)[1]));
    // Bytes in transit when a connection breaks may be lost: the next request begins where the last one ended.
    assert.ok(starts.every((start, i) => start > 0 && start >= (starts[i - 1] ?? 0)), String(starts));
  });

  test('a connection that stalls is followed by one that continues', SETTING, async () => {
    behave = async (request, response) => {
      if (asked.length > 1) return dropping(Infinity)(request, response);
      response.writeHead(200, { 'content-length': bytes.length, etag: '"1"' }).write(bytes.subarray(0, 4_000_000));
      return true;
    };
    // Only the timeout is shortened.
    await page.evaluate(() => {
      const { setTimeout: real } = window;
      window.setTimeout = (what, ms) => real(what, ms === 30_000 ? 300 : ms);
    });
    assert.equal(await look({ worker: false }), LABEL);
    assert.equal(asked.length, 2);
    assert.match(asked[1], /^bytes=[1-9]\d*-/);
  });

  test('a server without ranges is asked from the start', SETTING, async () => {
    let times = 0;
    behave = async (request, response) => {
      if (times++ > 0) return false;
      return dropping(1_000_000)({ headers: {} }, response);
    };
    assert.equal(await look(), LABEL);
    assert.equal(asked.length, 2);
  });

  test('a file that changed meanwhile is fetched again from its start', SETTING, async () => {
    let times = 0;
    behave = async (request, response) => dropping(times < 2 ? 4_000_000 : Infinity, { etag: `"${times++}"` })(request, response);
    assert.equal(await look(), LABEL);
    assert.deepEqual([asked[0], asked.at(-1)], ['all', 'all']);
  });

  test('a server that is busy is asked again, with pauses', SETTING, async () => {
    const times = [];
    behave = async (request, response) => {
      times.push(Date.now());
      if (times.length > 3) return false;
      response.writeHead(503).end();
      return true;
    };
    assert.equal(await look(), LABEL);
    const pauses = times.slice(1).map((time, i) => time - times[i]);
    assert.ok(pauses[0] >= 450 && pauses[1] >= 950 && pauses[2] >= 1950, String(pauses));
  });

  test('a server that never recovers gives an error', SETTING, async () => {
    behave = async (request, response) => {
      response.writeHead(503).end();
      return true;
    };
    const { code, message, detail } = await look();
    assert.equal(code, 'download');
    assert.match(message, /the server answered 503.*try again/);
    assert.ok(detail.endsWith(FILE));
    assert.equal(asked.length, 5);
  });

  test('a file that does not exist is not requested again', SETTING, async () => {
    behave = async (request, response) => {
      response.writeHead(404).end();
      return true;
    };
    assert.equal((await look()).code, 'download');
    assert.equal(asked.length, 1);
  });

  test('a file that does not match its hash gives an error', SETTING, async () => {
    behave = async (request, response) => {
      const other = Buffer.from(bytes);
      other[other.length >> 1] ^= 1;
      response.writeHead(200, { 'content-length': other.length }).end(other);
      return true;
    };
    const { code, message } = await look();
    assert.equal(code, 'integrity');
    assert.match(message, /not the model that was asked for/);
    // The file is requested once more, bypassing the browser's own cache.
    assert.equal(asked.length, 2);
    assert.equal(await page.evaluate(async () => (await (await caches.open('googlenet-web')).keys()).length), 0);
  });
});

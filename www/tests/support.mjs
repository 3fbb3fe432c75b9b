// What the tests share: the server, the browsers, the reference data.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';

/** The folder of reference data, or undefined. */
export const reference = process.env.GOOGLENET_REFERENCE;

/** Options for a test that compares with reference data. */
export const compared = {
  timeout: 600_000,
  skip: reference ? false : 'skipped: GOOGLENET_REFERENCE is not set',
};

/** A photograph of the reference data. */
export const photo = (name) => join(reference, 'imagenet', name);

/** Serves the built page as `cargo xtask start` does. Gives its address and what ends it. */
export async function serve() {
  const args = ['start', '--no-build', '--port', '0'];
  const mount = (path, folder) => folder && existsSync(folder) && args.push('--mount', `${path}=${folder}`);
  mount('reference', reference);
  mount('tests', process.env.PAGE_TESTS);
  mount('cifar10', process.env.CIFAR10);
  mount('converted', process.env.KERAS_MODEL && join(process.env.KERAS_MODEL, '..'));
  const [program, ...before] = process.env.XTASK ? [process.env.XTASK] : ['cargo', 'xtask'];
  const server = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface(server.stdout)) {
    const url = /http:\/\/localhost:\d+/.exec(line)?.[0];
    if (url) return { url, stop: () => server.kill() };
  }
  throw new Error('the server did not start');
}

/**
 * The same site with other headers. `change` gets an answer's headers and address, and may give text to put
 * in front of the body.
 */
export async function disguise(origin, change) {
  const server = createServer(async ({ url }, response) => {
    const answer = await fetch(origin + url);
    const { connection, 'keep-alive': keep, 'content-length': length, ...headers } = Object.fromEntries(answer.headers);
    const before = change(headers, url) ?? '';
    response.writeHead(answer.status, headers);
    response.end(Buffer.concat([Buffer.from(before), Buffer.from(await answer.arrayBuffer())]));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://localhost:${server.address().port}`, stop };
}

/** Chromium with WebGPU on its software adapter. */
export function launchChromium(...further) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--enable-unsafe-webgpu',
      '--use-webgpu-adapter=swiftshader',
      '--enable-features=Vulkan',
      '--ignore-gpu-blocklist',
      '--no-sandbox',
      ...further,
    ],
  });
}

/** Firefox with WebGPU on whatever Vulkan adapter there is. */
export function launchFirefox() {
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    protocolTimeout: 600_000,
    extraPrefsFirefox: {
      'dom.webgpu.enabled': true,
      'dom.webgpu.workers.enabled': true,
      'gfx.webgpu.ignore-blocklist': true,
    },
  });
}

/** Whether this machine has nothing else to do: the same piece of work takes about as long each time. */
export function isSteady() {
  const work = () => {
    const since = performance.now();
    let sum = 0;
    for (let i = 0; i < 3_000_000; i++) sum = (sum * 31 + i) | 0;
    return performance.now() - since + (sum === 1 ? 1e-9 : 0);
  };
  for (let i = 0; i < 10; i++) work();
  const times = Array.from({ length: 100 }, work).sort((a, b) => a - b);
  return times[94] < 1.5 * times[5];
}

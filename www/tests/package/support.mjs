// What the tests of the npm package share: fresh projects with the packed tarball in them, and servers for what they
// build.

import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join, normalize } from 'node:path';
import { promisify } from 'node:util';

const www = new URL('../../', import.meta.url).pathname;

/** A file of `www`. */
export const at = (...path) => join(www, ...path);

/** A real photograph, and what the bundled model must see on it. */
export const PHOTO = at('public/samples/cat.jpg');
export const LABEL = 'cat';

const run = promisify(execFile);

/** Runs a program that npm has installed here, in a project of a test's. */
export function tool(project, name, ...args) {
  const env = { ...process.env, NODE_ENV: '' };
  return run(at('node_modules/.bin', name), args, { cwd: project, env, maxBuffer: 1 << 26 });
}

/** The packed package. `cargo xtask test package` says where it is. */
const tarball = process.env.PACKAGE;
if (!tarball) throw new Error('there is no package to test: run `cargo xtask test package`');

/**
 * A project in a folder of its own, with the tarball installed into it as npm does it, other packages from here by their
 * names, and what `files` says. `example` names a folder of `examples/` to start from.
 */
export async function project({ example, packages = [], files = {} } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'googlenet-web-'));
  if (example) await cp(at('examples', example), folder, { recursive: true });
  // Only the tarball is installed: the registry is not asked.
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  await run(npm, ['install', '--no-audit', '--no-fund', '--offline', tarball], { cwd: folder });
  for (const name of packages) {
    const link = join(folder, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(at('node_modules', name), link, 'junction');
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.css': 'text/css',
  '.jpg': 'image/jpeg',
};

/** Cross-origin isolation, without which there are no threads. */
export const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
};

/**
 * A static server of a folder, as simple as they come: no ranges, no compression, no headers but those given.
 * `under` is a path in front of everything; `before` may answer a request itself, and then gives true.
 */
export async function serve(folder, { headers = {}, under = '/', before = async () => false } = {}) {
  const server = createServer(async (request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    try {
      if (await before(request, response, path)) return;
      if (!path.startsWith(under)) throw new Error('outside');
      let file = join(folder, path.slice(under.length));
      if (path.endsWith('/')) file = join(file, 'index.html');
      const { size } = await stat(file);
      response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-length': size });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://localhost:${server.address().port}`;
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { origin, url: `${origin}${under}`, stop };
}

/** A page of a browser, with all that went wrong on it. */
export async function visit(browser, url) {
  const page = await browser.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  // No browser is told that there is none.
  page.on('response', (response) => {
    if (response.status() >= 400 && !response.url().endsWith('favicon.ico')) faults.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(url);
  return { page, faults: () => faults.filter((fault) => !/favicon|404 \(/.test(fault)) };
}

/** Chooses the photograph in the page's only file input and waits for the answer. Gives the output's text. */
export async function classify(page) {
  await page.waitForSelector('input[type=file]:enabled', { timeout: 60_000 });
  await page.setInputFiles('input[type=file]', PHOTO);
  await page.waitForFunction(() => / ms$/.test(document.querySelector('output').value), null, { timeout: 60_000 });
  return page.$eval('output', (output) => output.value);
}


/** A project without a bundler whose page puts the package's exports on `window`, and has the photograph beside it. */
export async function bare() {
  const { folder, remove } = await project({
    files: {
      'index.html': '<!doctype html><meta charset="utf-8"><title>Test</title><script type="module" src="page.js"></script>',
      'page.js': "import * as api from './node_modules/googlenet-web/dist/index.js';\nObject.assign(window, api);\n",
    },
  });
  await cp(PHOTO, join(folder, 'cat.jpg'));
  return { folder, remove };
}

/** Waits until the page has the package's exports. */
export const ready = (page) => page.waitForFunction(() => 'GoogLeNet' in window);

/** The last test's page, site and project are ended with the next, and after the last. */
export function cleaner() {
  const todo = [];
  return {
    later: (what) => todo.push(what),
    clean: async () => {
      for (const what of todo.splice(0).reverse()) await what();
    },
  };
}

// What the tests of the npm package share: fresh projects with the packed tarball in them, and servers for their
// pages.

import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join, normalize } from 'node:path';
import { promisify } from 'node:util';

const www = new URL('../../', import.meta.url).pathname;

/** Returns the path of a file of `www`. */
export const at = (...path) => join(www, ...path);

/** A photograph, and the bundled model's answer for it. */
export const PHOTO = at('public/samples/cat.jpg');
export const LABEL = 'cat';

const run = promisify(execFile);

/** Runs a program that npm has installed here, in the project of a test. */
export function tool(project, name, ...args) {
  const env = { ...process.env, NODE_ENV: '' };
  return run(at('node_modules/.bin', name), args, { cwd: project, env, maxBuffer: 1 << 26 });
}

/** The packed package. `cargo xtask test package` says where it is. */
const tarball = process.env.PACKAGE;
if (!tarball) throw new Error('there is no package to test: run `cargo xtask test package`');

/**
 * Creates a project in a folder of its own: npm installs the tarball into it, `packages` are linked from this
 * repository, and `files` are written. `example` names a folder of `examples/` to start from.
 */
export async function project({ example, packages = [], files = {} } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'googlenet-web-'));
  if (example) await cp(at('examples', example), folder, { recursive: true });
  // Only the tarball is installed: npm does not contact the registry.
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

/** The headers of cross-origin isolation, which threads need. */
export const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
};

/**
 * Serves a folder without ranges or compression, and with no headers but those given. `under` is a path in front of
 * every file. `before` may answer a request itself, and then returns true.
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

/** Opens a page of a browser, and collects its faults. */
export async function visit(browser, url) {
  const page = await browser.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  // The browsers request this icon without being told to.
  page.on('response', (response) => {
    if (response.status() >= 400 && !response.url().endsWith('favicon.ico')) faults.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(url);
  return { page, faults: () => faults.filter((fault) => !/favicon|404 \(/.test(fault)) };
}

/** Chooses the photograph in the page's only file input and waits for the answer. Returns the output's text. */
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

/** Collects what must be closed: it is closed before the next test, and after the last one. */
export function cleaner() {
  const todo = [];
  return {
    later: (what) => todo.push(what),
    clean: async () => {
      for (const what of todo.splice(0).reverse()) await what();
    },
  };
}

// The page in the other browser engines: it loads, names a photograph, and draws the branches.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, test } from 'node:test';
import { launchChromium, launchFirefox, setting } from './support.mjs';

/** WebKitGTK through its WebDriver, as far as the tests need it: goes to pages and evaluates functions in them. */
async function launchWebKit() {
  const port = 4400 + (process.pid % 500);
  const driver = spawn('xvfb-run', ['-a', process.env.WEBKIT, `--port=${port}`], { detached: true, stdio: 'ignore' });
  const ask = async (path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: body === undefined ? 'GET' : 'POST', body: JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  for (let tries = 0; ; tries++) {
    try {
      await ask('/status');
      break;
    } catch (error) {
      if (tries > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const { sessionId } = await ask('/session', { capabilities: { alwaysMatch: {} } });
  const page = {
    goto: (url) => ask(`/session/${sessionId}/url`, { url }),
    evaluate: (what, ...args) => ask(`/session/${sessionId}/execute/sync`, { script: `return (${what})(...arguments)`, args }),
    close: async () => {},
  };
  return { newPage: async () => page, close: async () => process.kill(-driver.pid) };
}

const ENGINES = [
  ['Chromium', launchChromium, ['cpu']],
  ['Firefox', launchFirefox, ['cpu', 'gpu']],
  ['WebKit', launchWebKit, ['cpu']],
];

for (const [name, launch, backends] of ENGINES) {
  const skip = name === 'WebKit' && !process.env.WEBKIT ? 'skipped: WEBKIT is not set' : false;
  describe(`the page in ${name}`, { concurrency: false, skip }, () => {
    const here = setting(launch);

    for (const backend of backends) {
      test(`names a photograph and draws its branches on the ${backend}`, { timeout: 300_000 }, async (t) => {
        const page = await here.browser.newPage();
        const until = async (what, ...args) => {
          for (const end = Date.now() + 120_000; ; ) {
            const value = await page.evaluate(what, ...args);
            if (value) return value;
            if (Date.now() > end) throw new Error(`never: ${what}; ${await page.evaluate(() => document.body.innerText.slice(0, 300))}`);
            await new Promise((resolve) => setTimeout(resolve, 250));
          }
        };
        await page.goto(`${here.server.url}/?backend=${backend}`);
        const running = await until(() => document.querySelector('#facts[data-backend]')?.innerText);
        assert.equal(await page.evaluate(() => document.querySelector('#facts').dataset.backend), backend);
        const look = async (sample, classes) => {
          await page.evaluate((sample) => document.querySelector(`[data-sample="samples/${sample}.jpg"]`).click(), sample);
          await until((sample) => location.hash.includes(sample), sample);
          await until(() => document.querySelector('#inside[aria-busy="false"]:not([hidden]) #sums .total') !== null);
          const label = await page.evaluate(() => document.querySelector('#top .name').firstChild.textContent);
          assert.ok(classes.includes(label), label);
          return page.evaluate(() => [...document.querySelectorAll('#lanes canvas')].map((canvas) => canvas.toDataURL()));
        };
        const cat = await look('cat', ['cat']);
        const rocket = await look('rocket', ['airplane', 'ship', 'truck', 'bird']);
        assert.equal(cat.length, 4);
        for (const [at, sheet] of cat.entries()) assert.notEqual(sheet, rocket[at], 'tiles change with the picture');
        assert.equal(await page.evaluate(() => document.querySelector('#alert').hidden), true);
        t.diagnostic(running.replaceAll('\n', ' '));
        await page.close();
      });
    }
  });
}

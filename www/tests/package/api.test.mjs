// Every method of the package, in a page without a bundler.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launchChromium } from '../support.mjs';
import { LABEL, bare, ready, serve, visit } from './support.mjs';

const SETTING = { timeout: 120_000 };

describe('the API', { concurrency: false }, () => {
  let browser, remove, site, page, faults;

  before(async () => {
    const project = await bare();
    remove = project.remove;
    site = await serve(project.folder);
    browser = await launchChromium();
    ({ page, faults } = await visit(browser, site.url));
    await ready(page);
    await page.evaluate(async () => {
      window.phases = [];
      window.net = await GoogLeNet.load({ backend: 'wasm', onProgress: (progress) => phases.push(progress) });
      /** Returns an error in a form that can leave the page. */
      window.refused = (promise) => promise.then(() => 'not refused', ({ name, code, detail, message, constructor }) => {
        return { name, code, detail, message, ours: constructor === GoogLeNetError };
      });
    });
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await remove?.();
  });

  test('loading reports its progress, phase by phase', SETTING, async () => {
    const phases = await page.evaluate(() => phases);
    assert.deepEqual([...new Set(phases.map(({ phase }) => phase))], ['download', 'compile', 'upload', 'ready']);
    const download = phases.filter(({ phase }) => phase === 'download');
    assert.ok(download.length > 2 && download.every(({ loaded }, i) => i === 0 || loaded >= download[i - 1].loaded));
    assert.deepEqual(download.at(-1), { phase: 'download', loaded: 20672156, total: 20672156 });
  });

  test('info and layers describe the network', SETTING, async () => {
    const { info, layers, summary } = await page.evaluate(() => ({ info: net.info, layers: net.layers, summary: net.summary() }));
    assert.deepEqual([info.backend, info.variant, info.classes, info.heads], ['wasm', 'keras', 10, ['loss1', 'loss2', 'loss3']]);
    assert.ok(info.ms.download > 0 && info.ms.download <= info.ms.compile && info.ms.compile < info.ms.ready);
    assert.deepEqual(layers.find(({ layer }) => layer === 'inception_3a/5x5_reduce').shape, [28, 28, 16]);
    const { field, jump, start } = layers.find(({ layer }) => layer === 'inception_3a/3x3');
    assert.deepEqual({ field, jump, start }, { field: [43, 43], jump: [8, 8], start: [-14, -14] });
    assert.match(summary, /inception_3a\/5x5_reduce \(conv\) +28x28x16 +3,088/);
    assert.match(summary, /Total: 10,329,870 parameters/);
  });

  const SOURCES = {
    Blob: () => fetch('cat.jpg').then((r) => r.blob()),
    File: async () => new File([await (await fetch('cat.jpg')).blob()], 'cat.jpg'),
    'an address': () => 'cat.jpg',
    URL: () => new URL('cat.jpg', location.href),
    HTMLImageElement: () => Object.assign(new Image(), { src: 'cat.jpg' }),
    HTMLCanvasElement: async () => drawn(document.createElement('canvas'), await bitmap()),
    OffscreenCanvas: async () => drawn(new OffscreenCanvas(1, 1), await bitmap()),
    ImageBitmap: () => bitmap(),
    ImageData: async () => pixels(await bitmap()),
    pixels: async () => {
      const { data, width, height } = pixels(await bitmap());
      return { data: new Uint8Array(data), width, height };
    },
    VideoFrame: async () => new VideoFrame(await bitmap(), { timestamp: 0 }),
    HTMLVideoElement: async () => {
      const canvas = drawn(document.createElement('canvas'), await bitmap());
      const video = Object.assign(document.createElement('video'), { muted: true, srcObject: canvas.captureStream(30) });
      const again = setInterval(() => canvas.getContext('2d').fillRect(0, 0, 1, 1), 20);
      await video.play();
      await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
      clearInterval(again);
      return video;
    },
  };

  test('every kind of source is accepted', SETTING, async (t) => {
    await page.evaluate(() => {
      window.bitmap = async () => createImageBitmap(await (await fetch('cat.jpg')).blob());
      window.drawn = (canvas, picture) => {
        Object.assign(canvas, { width: picture.width, height: picture.height });
        canvas.getContext('2d').drawImage(picture, 0, 0);
        return canvas;
      };
      window.pixels = (picture) => drawn(new OffscreenCanvas(1, 1), picture).getContext('2d').getImageData(0, 0, picture.width, picture.height);
    });
    for (const [kind, make] of Object.entries(SOURCES)) {
      // The second time shows that a source is not consumed.
      const [first, second] = await page.evaluate(`(async () => {
        const source = await (${make})();
        const look = async () => (await net.classify(source, { top: 1 })).top[0];
        const both = [await look(), await look()];
        // A frame is closed by its owner.
        if (source instanceof VideoFrame) source.close();
        return both;
      })()`);
      assert.equal(first.label, LABEL, kind);
      if (kind !== 'HTMLVideoElement') assert.equal(first.probability, second.probability, kind);
      t.diagnostic(`${kind}: ${first.label}, ${(first.probability * 100).toFixed(1)} %`);
    }
  });

  test('a source that is no picture gives an error, and the network continues', SETTING, async () => {
    const wrong = {
      text: [() => new Blob(['no picture']), 'image', /JPEG/],
      empty: [() => new Blob([]), 'image', /empty/],
      missing: [() => 'none.jpg', 'download', /404/],
      elsewhere: [() => 'http://127.0.0.1:9/cat.jpg', 'download', /CORS/],
      'no image': [() => new Image(), 'image', /shows no picture/],
      object: [() => ({}), 'argument', /no picture in this object/],
      null: [() => null, 'argument', /no picture in a value of type Null/],
      'too few pixels': [() => ({ data: new Uint8Array(3), width: 1, height: 1 }), 'image', /need 4 bytes each, and there are 3/],
    };
    for (const [what, [make, code, words]] of Object.entries(wrong)) {
      const error = await page.evaluate(`refused(net.classify((${make})()))`);
      assert.deepEqual([error.ours, error.code], [true, code], what);
      assert.match(error.message, words);
    }
    assert.equal(await page.evaluate(async () => (await net.classify('cat.jpg')).top[0].label), LABEL);
  });

  test('other invalid arguments give errors', SETTING, async () => {
    const wrong = [
      ["GoogLeNet.load({ backend: 'cuda' })", 'argument', /"cuda" is no backend/],
      ['GoogLeNet.load({ threads: 0 })', 'argument', /0 threads/],
      ["GoogLeNet.load({ model: 'imagenet' })", 'argument', /modelUrl/],
      ["GoogLeNet.load({ model: 'http://' })", 'argument', /no address/],
      ['GoogLeNet.load({ model: new Uint8Array(100) })', 'import', /./],
      ["GoogLeNet.load({ model: 'none.safetensors' })", 'download', /404/],
      ["net.classify('cat.jpg', { crop: 'round' })", 'argument', /"round"/],
      ["net.activation('conv9')", 'unknown-node', /conv9/],
      ["net.draw(document.createElement('canvas'), { layer: 'conv9' })", 'unknown-node', /conv9/],
      ["net.draw(document.createElement('canvas'), { layer: 'prob', colormap: 'jet' })", 'argument', /jet/],
      ['net.cam(10)', 'argument', /no class 10: the model has 10 classes/],
      ["net.ablate({ 'inception_3a/3x3_reduce': 0 })", 'argument', /not the last layer of a branch/],
      ["net.ablate({ 'inception_3a/3x3': NaN })", 'argument', /must be a finite number/],
      ['net.run(new Float32Array(3))', 'argument', /./],
      ['net.classifyMany([], { batch: 0 })', 'argument', /batch/],
    ];
    for (const [call, code, words] of wrong) {
      const error = await page.evaluate(`refused(${call})`);
      assert.deepEqual([error.ours, error.code], [true, code], call);
      assert.match(error.message, words, call);
    }
    assert.equal(await page.evaluate(async () => (await net.classify('cat.jpg')).top[0].label), LABEL);
  });

  test('among many pictures, an unreadable one has its error in its place', SETTING, async () => {
    for (const batch of [1, 3]) {
      const { outcomes, progress } = await page.evaluate(async (batch) => {
        const progress = [];
        const sources = ['cat.jpg', new Blob(['x']), 'cat.jpg', {}, 'cat.jpg'];
        const outcomes = await net.classifyMany(sources, { batch, top: 1, onProgress: (at) => progress.push(at.done) });
        return { progress, outcomes: outcomes.map((each) => (each instanceof GoogLeNetError ? each.code : each.top[0].label)) };
      }, batch);
      assert.deepEqual(outcomes, [LABEL, 'image', LABEL, 'argument', LABEL]);
      assert.deepEqual(progress, batch === 1 ? [1, 2, 3, 4, 5] : [3, 5]);
    }
  });

  test('activations, features, contributions and the map agree with one another', SETTING, async () => {
    const { mean, features, logit, sum, branchSum, map, branchMap, shape, engine } = await page.evaluate(async () => {
      const { top } = await net.classify('cat.jpg');
      const best = top[0].index;
      const total = (values) => values.reduce((a, b) => a + b, 0);
      const { data, shape } = await net.activation('inception_5b/output');
      const cells = shape[0] * shape[1];
      const mean = total(Array.from({ length: cells }, (_, cell) => data[cell * shape[2] + 5])) / cells;
      const { logit, bias, channels, branches } = await net.contributions(best);
      const cam = await net.cam(best);
      const logits = await net.activation('loss3/classifier');
      return {
        mean, shape, logit,
        features: (await net.features('cat.jpg'))[5],
        sum: bias + total(channels),
        branchSum: bias + total(branches.map(({ sum }) => sum)),
        map: cam.bias + total(cam.data) / cells,
        branchMap: total(cam.branches.map(({ data }) => data[3])) - cam.data[3],
        engine: logits.data[best],
      };
    });
    assert.deepEqual(shape, [7, 7, 1024]);
    const near = (a, b, by = 1e-5) => assert.ok(Math.abs(a - b) <= by * (1 + Math.abs(b)), `${a} and ${b}`);
    near(features, mean);
    near(sum, logit, 1e-12);
    near(branchSum, logit, 1e-12);
    near(branchMap, 0, 1e-12);
    near(logit, engine);
    near(map, engine);
  });

  test('tiles are drawn, and change with the picture', SETTING, async () => {
    const drawn = await page.evaluate(async () => {
      const sheet = async (canvas, options) => {
        await net.draw(canvas, { layer: 'inception_4b/3x3', ...options });
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return { size: [canvas.width, canvas.height], colours: new Set(new Uint32Array(data.buffer)).size, sum: data.reduce((a, b) => a + b, 0) };
      };
      await net.classify('cat.jpg');
      const all = await sheet(document.createElement('canvas'), {});
      const few = await sheet(new OffscreenCanvas(1, 1), { channels: [3, 1, 2], columns: 2, scale: 4, gap: 2, colormap: 'grey', range: 'sheet' });
      const fixed = await sheet(new OffscreenCanvas(1, 1), { channels: [3], range: [0, 1], colormap: 'diverging' });
      await net.classify(new ImageData(50, 50));
      return { all, few, fixed, other: await sheet(document.createElement('canvas'), {}) };
    });
    // There are 224 channels of 14x14 in 15 columns, with a gap of a pixel.
    assert.deepEqual(drawn.all.size, [15 * 15 - 1, 15 * 15 - 1]);
    assert.deepEqual(drawn.few.size, [2 * 58 - 2, 2 * 58 - 2]);
    assert.deepEqual(drawn.fixed.size, [14, 14]);
    assert.ok(drawn.all.colours > 100 && drawn.few.colours > 10);
    assert.notEqual(drawn.all.sum, drawn.other.sum);
  });

  test('statistics and channels are those of the activations', SETTING, async () => {
    const { wrong, kept, far, sizes } = await page.evaluate(async () => {
      await net.classifyMany(['cat.jpg', new ImageData(50, 50)], { batch: 2 });
      const kept = [];
      const wrong = [];
      for (const image of [0, 1]) {
        for (const layer of ['conv1/7x7_s2', 'inception_4b/3x3', 'loss3/classifier', 'data']) {
          const { data, shape: [h, w, c] } = await net.activation(layer, image);
          const { mean, max, min, zeros } = await net.stats(layer, image);
          for (let channel = 0; channel < c; channel++) {
            const values = Array.from({ length: h * w }, (_, cell) => data[cell * c + channel]);
            const sum = values.reduce((a, b) => a + b, 0);
            const right = Math.abs(mean[channel] - sum / (h * w)) <= 1e-6 * (1 + Math.abs(mean[channel]))
              && max[channel] === Math.max(...values) && min[channel] === Math.min(...values)
              && zeros[channel] === Math.fround(values.filter((value) => value === 0).length / (h * w));
            if (!right) wrong.push([layer, image, channel]);
          }
          const last = Array.from({ length: h * w }, (_, cell) => data[cell * c + c - 1]);
          if ((await net.channel(layer, c - 1, image)).join() !== last.join()) wrong.push([layer, image, 'channel']);
          if (layer === 'inception_4b/3x3') kept.push([...zeros]);
        }
      }
      const sizes = Object.entries(await net.stats('prob')).map(([name, values]) => [name, values instanceof Float32Array, values.length]);
      return { wrong, kept, far: [await refused(net.stats('prob', 2)), await refused(net.channel('prob', 10)), await refused(net.stats('conv9'))], sizes };
    });
    assert.deepEqual(wrong, []);
    assert.ok(kept[0].some((share) => share > 0 && share < 1));
    assert.notDeepEqual(kept[0], kept[1]);
    assert.deepEqual(sizes, ['mean', 'max', 'min', 'zeros'].map((name) => [name, true, 10]));
    assert.deepEqual(far.map(({ code }) => code), ['argument', 'argument', 'unknown-node']);
  });

  test('tiles come in the order that is asked for, on one scale', SETTING, async () => {
    const { same, swapped } = await page.evaluate(async () => {
      const { top } = await net.classify('cat.jpg');
      const { channels } = await net.contributions(top[0].index);
      const order = [...channels.keys()].sort((a, b) => channels[b] - channels[a]).slice(0, 3);
      const { max } = await net.stats('inception_5b/output');
      const range = [0, Math.max(...max)];
      const drawn = async (channels) => {
        const canvas = new OffscreenCanvas(1, 1);
        await net.draw(canvas, { layer: 'inception_5b/output', channels, columns: 1, gap: 0, range });
        return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
      };
      const each = [];
      for (const channel of order) each.push(...(await drawn([channel])));
      const sheet = await drawn(order);
      return { same: sheet.join() === each.join(), swapped: (await drawn(order.toReversed())).join() === each.join() };
    });
    assert.deepEqual([same, swapped], [true, false]);
  });

  test('ablation changes the answer, and is undone', SETTING, async () => {
    const { before, off, restored } = await page.evaluate(async () => {
      const before = await net.classify('cat.jpg');
      const off = await net.ablate({ 'inception_3a/1x1': 0, 'inception_5b/pool_proj': 0.5 });
      const restored = await net.ablate({});
      return { before, off, restored };
    });
    assert.deepEqual(off.before, before.top);
    assert.deepEqual(restored.top, before.top);
    assert.notDeepEqual(off.top, before.top);
    const of = (index) => before.top.find((best) => best.index === index)?.probability;
    for (const [i, { index }] of off.top.entries()) {
      if (of(index) !== undefined) assert.equal(off.untouched[i], of(index));
    }
  });

  test('ablation runs only what lies downstream, and gives the same as a whole run', SETTING, async (t) => {
    const { wrong, ran, last } = await page.evaluate(async () => {
      const branches = net.layers.filter(({ layer }) => layer.endsWith('/output')).flatMap(({ inputs }) => inputs);
      const wrong = [];
      const ran = { part: 0, whole: 0 };
      await net.ablate({ [branches[0]]: 0.5 });
      for (const branch of branches) {
        const part = await net.ablate({ [branch]: 0 });
        // The gains stay in force.
        const whole = await net.classify('cat.jpg');
        if (JSON.stringify(part.heads) !== JSON.stringify(whole.heads)) wrong.push(branch);
        ran.whole += whole.ms.run;
      }
      for (const branch of branches) ran.part += (await net.ablate({ [branch]: 0 })).ms.run;
      await net.ablate({});
      const last = await net.ablate({});
      return { wrong, ran, last: last.ms.run };
    });
    assert.deepEqual(wrong, []);
    assert.ok(ran.part < ran.whole, `${ran.part} ms, and ${ran.whole} ms as whole runs`);
    t.diagnostic(`every branch off in turn: ${ran.part.toFixed(0)} ms, as whole runs ${ran.whole.toFixed(0)} ms; nothing changed: ${last.toFixed(2)} ms`);
  });

  test('with the option `ablation`, already the first call runs only what lies downstream', SETTING, async () => {
    const ran = await page.evaluate(async () => {
      const ran = {};
      for (const ablation of [true, false]) {
        const net = await GoogLeNet.load({ backend: 'wasm', heads: false, ablation });
        await net.profile();
        const { top } = await net.classify('cat.jpg');
        const off = await net.ablate({ 'inception_5b/1x1': 0 });
        ran[ablation] = { steps: (await net.profile(false)).map(({ node }) => node), before: top[0], off: off.top[0], layers: net.layers.length };
        net.free();
      }
      return ran;
    });
    assert.deepEqual(ran.true.steps, ['inception_5b/output', 'pool5/7x7_s1', 'loss3/classifier', 'prob']);
    assert.equal(ran.false.steps.length, ran.false.layers - 1, 'otherwise everything is run');
    assert.deepEqual([ran.true.before, ran.true.off], [ran.false.before, ran.false.off]);
    assert.notDeepEqual(ran.true.off, ran.true.before);
  });

  test('calls that are made at once are queued', SETTING, async () => {
    const labels = await page.evaluate(async () => {
      const calls = Array.from({ length: 12 }, () => net.classify('cat.jpg', { top: 1 }));
      const layer = net.activation('prob');
      return [...(await Promise.all(calls)).map(({ top }) => top[0].label), (await layer).shape.join()];
    });
    assert.deepEqual(labels, [...Array(12).fill(LABEL), '1,1,10']);
  });

  test('a signal aborts one call, and the others continue', SETTING, async () => {
    const { ended, before, loading, others } = await page.evaluate(async () => {
      const ended = new AbortController();
      const calls = [1, 2, 3, 4].map((n) => net.classify('cat.jpg', { signal: n === 3 ? ended.signal : undefined }));
      const third = refused(calls[2]);
      ended.abort();
      const load = new AbortController();
      const loading = refused(GoogLeNet.load({ signal: load.signal, onProgress: () => load.abort() }));
      return {
        ended: await third,
        before: await refused(net.classify('cat.jpg', { signal: AbortSignal.abort() })),
        loading: await loading,
        others: (await Promise.all([0, 1, 3].map((n) => calls[n]))).map(({ top }) => top[0].label),
      };
    });
    for (const error of [ended, before, loading]) assert.deepEqual([error.ours, error.code, error.name], [true, 'aborted', 'AbortError']);
    assert.deepEqual(others, [LABEL, LABEL, LABEL]);
  });

  test('a model may be bytes or a file, in a worker and on the calling thread', SETTING, async () => {
    const found = await page.evaluate(async () => {
      const response = await fetch('node_modules/googlenet-web/dist/models/cifar10-noheads.safetensors');
      const bytes = await response.arrayBuffer();
      const models = [bytes, new Uint8Array(bytes), new Blob([bytes]), response.url, new URL(response.url), { url: response.url }];
      const found = [];
      for (const model of models) {
        const net = await GoogLeNet.load({ model, worker: found.length % 2 === 0 });
        found.push((await net.classify('cat.jpg')).top[0].label);
        // `using` calls this.
        net[Symbol.dispose]();
      }
      return { found, left: bytes.byteLength };
    }).catch((error) => error.message);
    assert.deepEqual(found, { found: Array(6).fill(LABEL), left: 11970636 });
  });

  test('loading asks for the adapter once, and `move` refuses a backend that does not exist', SETTING, async () => {
    const { requests, backend, moved } = await page.evaluate(async () => {
      const request = GPU.prototype.requestAdapter;
      let requests = 0;
      GPU.prototype.requestAdapter = function (...args) {
        requests++;
        return request.apply(this, args);
      };
      try {
        const net = await GoogLeNet.load({ worker: false, heads: false });
        const moved = await refused(net.move('cuda'));
        const { backend } = net.info;
        net.free();
        return { requests, backend, moved };
      } finally {
        GPU.prototype.requestAdapter = request;
      }
    });
    // The adapter is software, so that the GPU's module, which asks for it again, is not even fetched.
    assert.deepEqual([requests, backend, moved.code], [1, 'wasm', 'argument']);
  });

  test('a lost device is replaced, and reported once', { timeout: 300_000 }, async (t) => {
    const { label, again, events, on } = await page.evaluate(async () => {
      const devices = [];
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await request.apply(this, args);
        devices.push(device);
        return device;
      };
      const net = await GoogLeNet.load({ backend: 'webgpu', worker: false, heads: false });
      const events = [];
      net.on('devicelost', ({ message, info }) => events.push({ message, backend: info.backend }));
      await net.classify('cat.jpg');
      devices.at(-1).destroy();
      await devices.at(-1).lost;
      const label = (await net.classify('cat.jpg')).top[0].label;
      const again = (await net.classify('cat.jpg')).top[0].label;
      const on = net.info.backend;
      net.free();
      GPUAdapter.prototype.requestDevice = request;
      return { label, again, events, on };
    });
    assert.deepEqual([label, again, events.length], [LABEL, LABEL, 1]);
    assert.equal(on, events[0].backend);
    t.diagnostic(`${events[0].message}; on ${on} from then on`);
  });

  test('calls to a freed network are rejected', SETTING, async () => {
    const { waiting, after, closed } = await page.evaluate(async () => {
      const net = await GoogLeNet.load({ heads: false });
      const waiting = refused(net.classify('cat.jpg'));
      await Promise.resolve();
      net.free();
      net.free();
      return { waiting: await waiting, after: await refused(net.classify('cat.jpg')), closed: net.closed };
    });
    assert.deepEqual([waiting.code, after.code, closed], ['closed', 'closed', true]);
    // The browser also reports refused downloads.
    assert.deepEqual(faults().filter((fault) => !/none\.|404|127\.0\.0\.1:9|ERR_/.test(fault)), []);
  });
});

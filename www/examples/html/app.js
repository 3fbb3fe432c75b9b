// This page is served as it is. `npm install` has put the package in its place; a copy of its dist/ works as well.
import { GoogLeNet } from './node_modules/googlenet-web/dist/index.js';

const [input, output] = ['input', 'output'].map((name) => document.querySelector(name));
const net = await GoogLeNet.load({
  heads: false,
  onProgress: ({ phase, loaded, total }) => (output.value = `${phase}: ${loaded} of ${total} bytes`),
});
output.value = `Ready on ${net.info.backend}, ${net.info.threads} threads.`;

input.disabled = false;
input.addEventListener('change', async () => {
  try {
    const { top, ms } = await net.classify(input.files[0]);
    output.value = `${top[0].label}, ${(top[0].probability * 100).toFixed(1)} %, ${ms.run.toFixed(0)} ms`;
  } catch (error) {
    output.value = error.message;
  }
});

// The network on TensorFlow.js, built from our file, since it reads none of the formats that we write.

import * as tf from '@tensorflow/tfjs-core';
import { tensors } from '../tests/page/safetensors';
import type { On } from './peer';
import type { Run } from './peer.worker';
import { model, type Variant } from './runtime';

const MODULES = ['3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b'];

export async function load(variant: Variant, on: On, threads: number): Promise<Run> {
  if (on === 'webgpu') await import('@tensorflow/tfjs-backend-webgpu');
  else await setWasm(threads);
  if (!(await tf.setBackend(on))) throw new Error(`there is no ${on}`);

  const weights = new Map<string, tf.Tensor>();
  for (const [name, { shape, data }] of await tensors(model(`${variant}.safetensors`))) {
    const stored = tf.tensor(data, shape);
    // Converts OIHW to HWIO, and a dense layer's (out, in) to (in, out).
    const order = shape.length === 4 ? [2, 3, 1, 0] : shape.length === 2 ? [1, 0] : [0];
    weights.set(name, tf.transpose(stored, order));
    stored.dispose();
  }
  const net = network(weights, variant);
  return async (input) => {
    const output = tf.tidy(() => net(tf.tensor4d(input, [1, 224, 224, 3])));
    const data = (await output.data()) as Float32Array;
    output.dispose();
    return data;
  };
}

async function setWasm(threads: number): Promise<void> {
  const { setThreadsCount, setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm');
  setWasmPaths(new URL('/assets/tensorflow/', location.href).href);
  // In an isolated page it would use its build with threads even for one thread.
  if (threads === 1) tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
  else setThreadsCount(threads);
}

function network(weights: Map<string, tf.Tensor>, variant: Variant): (x: tf.Tensor4D) => tf.Tensor {
  const weight = <T extends tf.Tensor>(name: string): T => {
    const found = weights.get(name);
    if (!found) throw new Error(`the model has no ${name}`);
    return found as T;
  };
  const conv = (x: tf.Tensor4D, name: string, strides = 1, pad: 'same' | number = 'same') =>
    tf.fused.conv2d({
      x,
      filter: weight<tf.Tensor4D>(`${name}.weight`),
      bias: weight(`${name}.bias`),
      activation: 'relu',
      strides,
      pad,
    });
  // Rounding up and SAME are equal on maps of even size.
  const pool = (x: tf.Tensor4D, strides: number) => tf.maxPool(x, 3, strides, 'same');
  // With TensorFlow.js' own LRN the median of a run was 7, 30 and 36 % longer (three sets of 20 runs, on a machine
  // that had other work). Here the sum over neighbouring channels is a 1x1 convolution whose matrix is a band,
  // and x^0.75 is computed with two square roots.
  const bands = variant === 'caffe' ? new Map([64, 192].map((channels) => [channels, band(channels)])) : undefined;
  const lrn = (x: tf.Tensor4D) => {
    const { filter, bias } = bands!.get(x.shape[3])!;
    const d = tf.fused.conv2d({ x: tf.square(x), filter, bias, strides: 1, pad: 'same' });
    return tf.div<tf.Tensor4D>(x, tf.sqrt(tf.mul(d, tf.sqrt(d))));
  };
  const inception = (x: tf.Tensor4D, row: string) => {
    const layer = (x: tf.Tensor4D, name: string) => conv(x, `inception_${row}/${name}`);
    return tf.concat4d(
      [
        layer(x, '1x1'),
        layer(layer(x, '3x3_reduce'), '3x3'),
        layer(layer(x, '5x5_reduce'), '5x5'),
        layer(pool(x, 1), 'pool_proj'),
      ],
      3,
    );
  };
  const caffe = variant === 'caffe';
  return (x) => {
    x = pool(conv(x, 'conv1/7x7_s2', 2, caffe ? 3 : 'same'), 2);
    if (caffe) x = conv(lrn(x), 'conv2/3x3_reduce');
    x = conv(x, 'conv2/3x3');
    if (caffe) x = lrn(x);
    x = pool(x, 2);
    for (const row of MODULES) x = inception(row === '4a' || row === '5a' ? pool(x, 2) : x, row);
    const a = tf.mean(x, [1, 2]) as tf.Tensor2D;
    return tf.softmax(
      tf.fused.matMul({ a, b: weight('loss3/classifier.weight'), bias: weight('loss3/classifier.bias') }),
    );
  };
}

/** Computes 1 + 1e-4 / 5 * the sum over five channels. */
function band(channels: number): { filter: tf.Tensor4D; bias: tf.Tensor1D } {
  const values = new Float32Array(channels * channels);
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(Math.floor(i / channels) - (i % channels)) <= 2) values[i] = 1e-4 / 5;
  }
  return { filter: tf.tensor4d(values, [1, 1, channels, channels]), bias: tf.ones([channels]) };
}

// The references' names of layers, and the engine's names of the same layers.

const KERAS: Record<string, string> = {
  'convolution-1': 'conv1/7x7_s2',
  'convolution-2': 'conv2/3x3',
  'max-pool-1': 'pool1/3x3_s2',
  'max-pool-2': 'pool2/3x3_s2',
  'max-pool-3': 'pool3/3x3_s2',
  'max-pool-4': 'pool4/3x3_s2',
  'avg-pool': 'pool5/7x7_s1',
  dropout: 'pool5/7x7_s1',
  flatten: 'pool5/7x7_s1',
  linear: 'loss3/classifier',
  softmax: 'prob',
  'AuxiliaryClassifier-1': 'loss1/prob',
  'AuxiliaryClassifier-2': 'loss2/prob',
};
const BRANCHES: Record<string, string> = { branch1: '1x1', branch2: '3x3', branch3: '5x5', branch4: 'pool_proj' };

export function fromKeras(name: string): string {
  const [, row, branch] = /^inception-(\w+)(?:\/(\w+))?$/.exec(name) ?? [];
  const node = row ? `inception_${row}/${branch ? BRANCHES[branch] : 'output'}` : KERAS[name];
  if (!node) throw new Error(`no layer of ours is Keras' ${name}`);
  return node;
}

export function fromCaffe(name: string): string {
  return name === 'logits' ? 'loss3/classifier' : name;
}

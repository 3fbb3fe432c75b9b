export interface Tensor {
  shape: number[];
  data: Float32Array;
}

/** Reads the f32 tensors of a safetensors file. */
export async function tensors(url: string): Promise<Map<string, Tensor>> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const file = await response.arrayBuffer();
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const all = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    // The entry of the metadata has no offsets.
    if (dtype !== 'F32') continue;
    const [from, to] = data_offsets;
    all.set(name, { shape, data: new Float32Array(file.slice(8 + length + from, 8 + length + to)) });
  }
  return all;
}

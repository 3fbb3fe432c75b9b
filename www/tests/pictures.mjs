// Pictures in every format and with every fault that a page meets on the open web, made here from one photograph.

import { readFile } from 'node:fs/promises';
import { crc32, deflateSync } from 'node:zlib';

const SIDE = 224;
const text = (words) => Buffer.from(words);

/**
 * Returns the cases, each with a name, bytes, and the expected result: the most probable class, the `words` of the
 * error message, or either where browsers differ.
 *
 * @param photo - RGBA bytes of the photograph, 224 pixels each way.
 * @param encode - Encodes RGBA bytes of a size in a format that the browser supports.
 */
export async function cases(photo, encode) {
  const right = { answer: 'cat' };
  const refused = { words: /cannot be opened|too large|empty|no picture/i };
  const either = { ...right, ...refused };
  const any = { answer: undefined, ...refused };
  const all = [];
  const add = (name, bytes, expected) => all.push({ name, bytes: Buffer.from(bytes), expected });

  const [jpeg, webp, png] = [await encode(photo, SIDE, SIDE, 'image/jpeg'), await encode(photo, SIDE, SIDE, 'image/webp'), await encode(photo, SIDE, SIDE, 'image/png')];
  add('photo.jpg', jpeg, right);
  add('photo.webp', webp, right);
  add('photo.png', png, right);
  add('wrong extension.png', jpeg, right);
  add('no extension', webp, right);

  // PNG in every colour type and depth (ISO/IEC 15948).
  const rgb = channels(photo, ([r, g, b]) => [r, g, b]);
  const grey = channels(photo, ([r, g, b]) => [Math.round(0.299 * r + 0.587 * g + 0.114 * b)]);
  add('rgb8.png', encodePng(SIDE, SIDE, 2, 8, rgb), right);
  add('rgb16.png', encodePng(SIDE, SIDE, 2, 16, wide(rgb)), right);
  add('rgba8.png', encodePng(SIDE, SIDE, 6, 8, photo), right);
  add('rgba16.png', encodePng(SIDE, SIDE, 6, 16, wide(photo)), right);
  add('transparent.png', encodePng(SIDE, SIDE, 6, 8, channels(photo, ([r, g, b], x, y) => [r, g, b, Math.hypot(x - 112, y - 112) < 108 ? 255 : 0])), right);
  add('all transparent.png', encodePng(8, 8, 6, 8, Buffer.alloc(256)), { answer: undefined });
  add('grey8.png', encodePng(SIDE, SIDE, 0, 8, grey), { answer: undefined });
  add('grey16.png', encodePng(SIDE, SIDE, 0, 16, wide(grey)), { answer: undefined });
  add('grey and alpha.png', encodePng(SIDE, SIDE, 4, 8, channels(photo, ([r]) => [r, 255])), { answer: undefined });
  for (const bits of [1, 2, 4]) add(`grey${bits}.png`, encodePng(SIDE, SIDE, 0, bits, packed(grey.map((v) => v >> (8 - bits)), SIDE, bits)), { answer: undefined });
  const cube = Buffer.from(Array.from({ length: 216 }, (_, i) => [Math.floor(i / 36) * 51, (Math.floor(i / 6) % 6) * 51, (i % 6) * 51]).flat());
  const indices = channels(photo, ([r, g, b]) => [Math.round(r / 51) * 36 + Math.round(g / 51) * 6 + Math.round(b / 51)]);
  add('palette8.png', encodePng(SIDE, SIDE, 3, 8, indices, cube), right);
  add('palette1.png', encodePng(SIDE, SIDE, 3, 1, packed(grey.map((v) => v >> 7), SIDE, 1), Buffer.from([0, 0, 0, 255, 255, 255])), { answer: undefined });

  // Sizes.
  add('1x1.png', encodePng(1, 1, 2, 8, Buffer.from([200, 30, 30])), { answer: undefined });
  add('1x1.jpg', await encode(Uint8ClampedArray.of(200, 30, 30, 255), 1, 1, 'image/jpeg'), { answer: undefined });
  add('1x20000.png', encodePng(1, 20_000, 0, 8, Buffer.alloc(20_000, 90)), { answer: undefined });
  add('20000x1.png', encodePng(20_000, 1, 0, 8, Buffer.alloc(20_000, 90)), { answer: undefined });
  add('100 megapixels.png', encodePng(10_000, 10_000, 0, 1, Buffer.alloc(1250 * 10_000, 0x55)), any);
  add('a bomb.png', encodePng(65_535, 65_535, 0, 1, Buffer.alloc(1000)), refused);
  add('0x0.png', encodePng(0, 0, 2, 8, Buffer.alloc(0)), refused);

  // Other formats.
  add('photo.bmp', encodeBmp(photo, SIDE, SIDE), right);
  add('still.gif', encodeGif([indices], SIDE, SIDE, cube), right);
  add('animated.gif', encodeGif([indices, Buffer.alloc(indices.length, 0), Buffer.alloc(indices.length, 215)], SIDE, SIDE, cube), right);
  add('sized.svg', text('<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><circle cx="45" cy="45" r="40" fill="red"/></svg>'), any);
  add('without size.svg', text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4" cy="4" r="4"/></svg>'), any);
  add('with a script.svg', text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>top.pwned = 1</script></svg>'), any);
  add('broken.svg', text('<svg xmlns="http://www.w3.org/2000/svg" width="9"'), refused);
  add('cmyk.jpg', await readFile(new URL('cmyk.jpg', import.meta.url)), right);

  // Orientations (Exif 2.3, tag 0x0112), with the pixels turned the other way: upright, all are the same picture.
  for (let orientation = 1; orientation <= 8; orientation++) {
    const turned = await encode(unturned(photo, orientation), SIDE, SIDE, 'image/jpeg');
    add(`orientation ${orientation}.jpg`, withOrientation(turned, orientation), right);
  }

  // Truncated and damaged files.
  for (const [kind, whole] of Object.entries({ jpg: jpeg, png, webp })) {
    for (const part of [0.01, 0.1, 0.5, 0.9, 0.999]) add(`cut at ${part}.${kind}`, whole.subarray(0, Math.floor(whole.length * part)), any);
  }
  for (const [kind, whole] of Object.entries({ jpg: jpeg, png, webp })) {
    const harmed = Buffer.from(whole);
    for (let at = 40; at < harmed.length; at += 97) harmed[at] ^= 0x5a;
    add(`damaged.${kind}`, harmed, any);
  }
  add('jpeg and more.jpg', Buffer.concat([jpeg, Buffer.alloc(5000, 7)]), right);
  add('crc.png', (() => ((png[29] ^= 1), png))(), either);

  // Files that are not pictures.
  add('empty.jpg', Buffer.alloc(0), refused);
  add('text.jpg', text('This is no picture.'), refused);
  add('page.png', text('<!doctype html><title>no picture</title>'), refused);
  add('zeros.jpg', Buffer.alloc(100_000), refused);
  add('noise.webp', Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 2654435761) >>> 24)), refused);
  add('paper.pdf', text('%PDF-1.7\n1 0 obj\n<<>>\nendobj\n'), refused);
  add('archive.zip', Buffer.from([0x50, 0x4b, 3, 4, ...Array(60).fill(0)]), refused);
  add('photo.heic', Buffer.concat([Buffer.from([0, 0, 0, 24]), text('ftypheic'), Buffer.alloc(200)]), refused);
  add('photo.avif', Buffer.concat([Buffer.from([0, 0, 0, 28]), text('ftypavif'), Buffer.alloc(200)]), refused);
  add('film.mp4', Buffer.concat([Buffer.from([0, 0, 0, 24]), text('ftypmp42'), Buffer.alloc(200)]), refused);
  add('raw.tiff', Buffer.from([0x49, 0x49, 42, 0, 8, 0, 0, 0, ...Array(100).fill(0)]), refused);
  add('only a header.gif', text('GIF89a'), refused);
  add('only a signature.png', png.subarray(0, 8), refused);
  return all;
}

/** Maps the channels of each pixel to others. */
function channels(rgba, make) {
  const out = [];
  for (let i = 0; i < rgba.length; i += 4) out.push(...make(rgba.subarray(i, i + 4), (i / 4) % SIDE, Math.floor(i / 4 / SIDE)));
  return Buffer.from(out);
}

/** Widens eight bits to sixteen. */
function wide(bytes) {
  return Buffer.from([...bytes].flatMap((byte) => [byte, byte]));
}

/** Packs values of a few bits, row by row. */
function packed(values, width, bits) {
  const rows = [];
  for (let from = 0; from < values.length; from += width) {
    const row = Buffer.alloc(Math.ceil((width * bits) / 8));
    for (let x = 0; x < width; x++) row[(x * bits) >> 3] |= values[from + x] << (8 - bits - ((x * bits) & 7));
    rows.push(row);
  }
  return Buffer.concat(rows);
}

function chunk(type, data) {
  const body = Buffer.concat([text(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

function encodePng(width, height, colour, bits, pixels, palette) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bits, colour], 8);
  const stride = height > 0 ? Math.floor(pixels.length / height) : 0;
  const rows = Buffer.alloc((stride + 1) * height);
  for (let y = 0; y < height; y++) rows.set(pixels.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  const chunks = [chunk('IHDR', header), ...(palette ? [chunk('PLTE', palette)] : []), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))];
  return Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), ...chunks]);
}

/** Encodes a BMP with 24 bits per pixel, from the bottom up. */
function encodeBmp(rgba, width, height) {
  const stride = (width * 3 + 3) & ~3;
  const out = Buffer.alloc(54 + stride * height);
  out.write('BM');
  out.writeUInt32LE(out.length, 2);
  out.writeUInt32LE(54, 10);
  out.writeUInt32LE(40, 14);
  out.writeInt32LE(width, 18);
  out.writeInt32LE(height, 22);
  out.writeUInt16LE(1, 26);
  out.writeUInt16LE(24, 28);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = ((height - 1 - y) * width + x) * 4;
      out.set([rgba[from + 2], rgba[from + 1], rgba[from]], 54 + y * stride + x * 3);
    }
  }
  return out;
}

/** Encodes a GIF without compression: codes of nine bits, and a clear code before the table would grow to ten. */
function encodeGif(frames, width, height, palette) {
  const table = Buffer.concat([palette, Buffer.alloc(768 - palette.length)]);
  const screen = Buffer.from([width & 255, width >> 8, height & 255, height >> 8, 0xf7, 0, 0]);
  const parts = [text('GIF89a'), screen, table];
  for (const frame of frames) {
    let [bits, held] = [0, 0];
    const bytes = [];
    const put = (code) => {
      bits |= code << held;
      for (held += 9; held >= 8; held -= 8, bits >>>= 8) bytes.push(bits & 255);
    };
    frame.forEach((index, at) => {
      if (at % 200 === 0) put(256);
      put(index);
    });
    put(257);
    if (held > 0) bytes.push(bits & 255);
    const blocks = [];
    for (let at = 0; at < bytes.length; at += 255) blocks.push(Buffer.from([Math.min(255, bytes.length - at), ...bytes.slice(at, at + 255)]));
    const control = Buffer.from([0x21, 0xf9, 4, 0, 10, 0, 0, 0]);
    const image = Buffer.from([0x2c, 0, 0, 0, 0, width & 255, width >> 8, height & 255, height >> 8, 0, 8]);
    parts.push(control, image, ...blocks, Buffer.from([0]));
  }
  return Buffer.concat([...parts, Buffer.from([0x3b])]);
}

/** Returns the position in the stored picture of a pixel of the upright one. */
const STORED = {
  1: (x, y) => [x, y],
  2: (x, y) => [SIDE - 1 - x, y],
  3: (x, y) => [SIDE - 1 - x, SIDE - 1 - y],
  4: (x, y) => [x, SIDE - 1 - y],
  5: (x, y) => [y, x],
  6: (x, y) => [y, SIDE - 1 - x],
  7: (x, y) => [SIDE - 1 - y, SIDE - 1 - x],
  8: (x, y) => [SIDE - 1 - y, x],
};

function unturned(rgba, orientation) {
  const out = new Uint8ClampedArray(rgba.length);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const [u, v] = STORED[orientation](x, y);
      out.set(rgba.subarray((y * SIDE + x) * 4, (y * SIDE + x) * 4 + 4), (v * SIDE + u) * 4);
    }
  }
  return out;
}

/** Encodes a JPEG with an APP1 segment that has only this tag. */
function withOrientation(jpeg, orientation) {
  const tiff = [0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
  const body = [...text('Exif\0\0'), ...tiff];
  return Buffer.concat([jpeg.subarray(0, 2), Buffer.from([0xff, 0xe1, 0, body.length + 2, ...body]), jpeg.subarray(2)]);
}

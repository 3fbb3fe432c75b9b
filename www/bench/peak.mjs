// The machine's limit: loops of nothing but multiply-adds on registers.

import binaryen from 'binaryen';

// 12 chains in flight and their two factors fill 14 of x86's 16 vector registers, and hide the latency of two
// multiply-adds a cycle; 4 of each a turn make the loop's own instructions few.
const CHAINS = 12;
const TURNS = 4;

/** Floating-point operations a turn of the loop. */
export const FLOPS = CHAINS * TURNS * 4 * 2;

/** A module whose `run(count)` takes so many turns: multiplying and adding at once, or one after the other. */
export function module(relaxed) {
  const chains = [...Array(CHAINS).keys()];
  const step = (c) =>
    relaxed
      ? `(local.set $c${c} (f32x4.relaxed_madd (local.get $c${c}) (local.get $a) (local.get $b)))`
      : `(local.set $c${c} (f32x4.add (f32x4.mul (local.get $c${c}) (local.get $a)) (local.get $b)))`;
  const text = `(module (func (export "run") (param $count i32) (result f32)
    (local $a v128) (local $b v128) ${chains.map((c) => `(local $c${c} v128)`).join(' ')}
    (local.set $a (f32x4.splat (f32.const 0.999)))
    (local.set $b (f32x4.splat (f32.const 0.001)))
    ${chains.map((c) => `(local.set $c${c} (f32x4.splat (f32.const ${c})))`).join('\n')}
    (loop $turn
      ${Array(TURNS).fill(chains.map(step).join('\n')).join('\n')}
      (br_if $turn (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (f32x4.extract_lane 0 ${chains.slice(1).reduce((sum, c) => `(f32x4.add ${sum} (local.get $c${c}))`, '(local.get $c0)')})))`;
  const parsed = binaryen.parseText(text);
  parsed.setFeatures(binaryen.Features.SIMD128 | binaryen.Features.RelaxedSIMD);
  return [...parsed.emitBinary()];
}

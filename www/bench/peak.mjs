// The machine's limit: loops that only multiply and add in registers.

import binaryen from 'binaryen';

// 12 dependency chains and their two factors fill 14 of x86's 16 vector registers, and hide the latency of two
// multiply-adds per cycle. With 4 multiply-adds of each chain per turn, the loop's own instructions are few.
const CHAINS = 12;
const TURNS = 4;

/** The floating-point operations of a turn of the loop. */
export const FLOPS = CHAINS * TURNS * 4 * 2;

/** Builds a module whose `run(count)` does that many turns, with fused multiply-adds or separate ones. */
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

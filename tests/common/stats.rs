//! Statistics of channels and values of single channels, compared with f64 computations on whole tensors.

use super::{cases, name};
use googlenet::engine::Options;
use googlenet::graph::googlenet::Variant;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::inspect::statistics::Stats;

/// The values of one channel of a picture, from the whole tensor.
fn values(x: &Tensor, image: usize, channel: usize) -> Vec<f32> {
    x.image(image).iter().skip(channel).step_by(x.shape.c).copied().collect()
}

fn compare(got: &[f32], x: &Tensor, image: usize) -> Result<(), String> {
    for channel in 0..x.shape.c {
        let [got_mean, max, min, zeros] = [0, 1, 2, 3].map(|at| got[4 * channel + at]);
        let values = values(x, image, channel);
        let count = values.len() as f64;
        let sum = |of: fn(f32) -> f64| values.iter().map(|&v| of(v)).sum::<f64>();
        let mean = sum(f64::from) / count;
        let near = 1e-6 * (1e-3 + sum(|v| f64::from(v.abs())) / count);
        let exact = [
            (max, values.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
            (min, values.iter().copied().fold(f32::INFINITY, f32::min)),
            (zeros, sum(|v| f64::from(u8::from(v == 0.0))) as f32 / count as f32),
        ];
        if (f64::from(got_mean) - mean).abs() > near || exact.iter().any(|(got, right)| got != right) {
            return Err(format!("channel {channel}: the mean is {}, not {mean}; {exact:?}", got_mean));
        }
    }
    Ok(())
}

/// Checks nodes with buffers of their own and nodes in ranges of channels. The comparison must fail for the other
/// picture of the batch.
pub async fn check(options: Options) -> Result<(), String> {
    let case = cases::module(Variant::Caffe, true, false, Shape::new(2, 5, 7, 6), 12);
    let engine = case.run(options).await?;
    for node in ["data", "inception_3a/pool", "inception_3a/3x3", "inception_3a/output"] {
        let say = |e: String| format!("{}, {node}: {e}", name(options));
        let x = engine.read(node).await.map_err(|e| say(e.to_string()))?;
        for image in [0, 1] {
            let stats = engine.stats(node, image, Stats::Channels).await.map_err(|e| say(e.to_string()))?;
            compare(&stats, &x, image).map_err(say)?;
            if compare(&stats, &x, 1 - image).is_ok() {
                return Err(say("the comparison held for the other picture".into()));
            }
            for channel in [0, x.shape.c - 1] {
                let got = engine.stats(node, image, Stats::Map(channel)).await.map_err(|e| say(e.to_string()))?;
                if got != values(&x, image, channel) {
                    return Err(say(format!("channel {channel} of picture {image} is {got:?}")));
                }
            }
        }
        for (image, channel) in [(2, 0), (0, x.shape.c)] {
            match engine.stats(node, image, Stats::Map(channel)).await {
                Err(e) if e.code() == "argument" => {}
                other => return Err(say(format!("channel {channel} of picture {image} gave {other:?}"))),
            }
        }
    }
    Ok(())
}

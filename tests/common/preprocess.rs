//! The reference for preprocessing, and the comparison with an engine's input.

use super::reference::Values;
use super::{Case, Rng, Tolerance, compare, name};
use googlenet::engine::{Engine, Options};
use googlenet::graph::network::Network;
use googlenet::graph::op::Op;
use googlenet::graph::tensor::Shape;
use googlenet::model::preprocess::{Crop, Image, Order, Preprocess};
use googlenet::plan::Input;

/// The BILINEAR filter of Pillow in f64: a triangle as wide as the reduction. Returns the weights of all inputs for
/// each output.
fn resize(len: usize, out: usize) -> Vec<Vec<f64>> {
    let scale = len as f64 / out as f64;
    let support = scale.max(1.0);
    let row = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let weights: Vec<f64> =
            (0..len).map(|x| (1.0 - ((x as f64 + 0.5 - center) / support).abs()).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    (0..out).map(row).collect()
}

/// Like [`resize`], but larger inputs are first resized to `through` samples.
fn resize_through(len: usize, out: usize, through: Option<usize>) -> Vec<Vec<f64>> {
    match through {
        Some(t) if t < len => {
            let down = resize(len, t);
            let mix = |row: &Vec<f64>| {
                (0..len).map(|x| row.iter().zip(&down).map(|(w, d)| w * d[x]).sum()).collect::<Vec<f64>>()
            };
            resize(t, out).iter().map(mix).collect()
        }
        _ => resize(len, out),
    }
}

/// The expected input tensor for these pictures.
pub fn reference(p: &Preprocess, images: &[&Image], crop: Crop) -> Values {
    let size = p.size;
    let mut data = Vec::new();
    for image in images {
        let [w, h] = [image.width(), image.height()];
        // For each axis: the first pixel, the number of pixels, and the range of outputs.
        let [across, down] = [w, h].map(|len| match crop {
            Crop::Center => ((len - w.min(h)) / 2, w.min(h), size),
            Crop::Squash => (0, len, size),
            Crop::Fit => (0, len, ((size * len) as f64 / w.max(h) as f64 + 1e-9).round().max(1.0) as usize),
        });
        let through = |len: usize| match crop {
            Crop::Fit => p.through.map(|t| ((t * len) as f64 / w.max(h) as f64 + 1e-9).round().max(1.0) as usize),
            _ => p.through,
        };
        let columns = resize_through(across.1, across.2, through(w));
        let rows = resize_through(down.1, down.2, through(h));
        let colour = |x: usize, y: usize, c: usize| {
            let pixel = &image.rgba()[(y * w + x) * 4..][..4];
            let alpha = pixel[3] as f64 / 255.0;
            pixel[c] as f64 * alpha + 255.0 * (1.0 - alpha)
        };
        for y in 0..size {
            for x in 0..size {
                for c in 0..3 {
                    let from = if p.order == Order::Rgb { c } else { 2 - c };
                    let (top, left) = ((size - down.2) / 2, (size - across.2) / 2);
                    let inside = (top..top + down.2).contains(&y) && (left..left + across.2).contains(&x);
                    data.push(if inside {
                        let mut sum = 0.0;
                        for (i, wy) in rows[y - top].iter().enumerate().filter(|(_, w)| **w > 0.0) {
                            for (j, wx) in columns[x - left].iter().enumerate().filter(|(_, w)| **w > 0.0) {
                                sum += wy * wx * colour(across.0 + j, down.0 + i, from);
                            }
                        }
                        (sum * p.scale as f64 - p.mean[c] as f64) / p.std[c] as f64
                    } else {
                        0.0
                    });
                }
            }
        }
    }
    Values { shape: Shape::new(images.len(), size, size, 3), data }
}

/// A picture of random noise.
pub fn picture(rng: &mut Rng, w: usize, h: usize, transparent: bool) -> Image {
    let mut rgba: Vec<u8> = (0..w * h * 4).map(|_| rng.below(256) as u8).collect();
    if !transparent {
        rgba.iter_mut().skip(3).step_by(4).for_each(|a| *a = 255);
    }
    Image::new(w, h, rgba).expect("w * h pixels")
}

/// An engine with a network that only preprocesses pictures.
pub async fn engine(p: Preprocess, options: Options) -> Result<Engine, String> {
    let shape = Shape::new(1, p.size, p.size, 3);
    let mut network = Network::new();
    let x = network.input("data", shape).map_err(|e| e.to_string())?;
    network.add("softmax", Op::Softmax, &[x]).map_err(|e| e.to_string())?;
    let mut model = Case::new("preprocess", network, Vec::new(), vec![Rng::new(0).tensor(shape)]).model()?;
    model.preprocess = p;
    Engine::with(model, options).await.map_err(|e| e.to_string())
}

/// Compares pictures of many proportions, cropped in every way, with the reference. The comparison must fail for a
/// batch in a different order.
pub async fn check(options: Options) -> Result<(), String> {
    let plain = Preprocess { size: 9, ..Preprocess::default() };
    let other = Preprocess {
        size: 16,
        order: Order::Bgr,
        scale: 1.0 / 255.0,
        mean: [0.4, 0.5, 0.6],
        std: [0.2, 0.25, 0.3],
        through: None,
    };
    // Inputs from 0 to 255, or from 0 to 1 divided by 0.2.
    for (p, atol) in [(plain, 2e-3), (other, 4e-5), (Preprocess { through: Some(6), ..plain }, 2e-3)] {
        let tolerance = Tolerance { atol, rtol: 1e-5 };
        let mut engine = engine(p, options).await?;
        let mut rng = Rng::new(3);
        for crop in [Crop::Center, Crop::Squash, Crop::Fit] {
            for (w, h) in [(9, 9), (37, 23), (5, 8), (16, 200), (1, 3), (101, 100)] {
                let say = |e: String| format!("{}, {crop:?} of {w}x{h} to {}: {e}", name(options), p.size);
                let (a, b) = (picture(&mut rng, w, h, false), picture(&mut rng, h, w, true));
                engine.run_input(Input::Images(&[&a, &b], crop)).await.map_err(|e| say(e.to_string()))?;
                let got = engine.read("data").await.map_err(|e| say(e.to_string()))?;
                compare(&got, &reference(&p, &[&a, &b], crop), tolerance).map_err(say)?;
                if compare(&got, &reference(&p, &[&b, &a], crop), tolerance).is_ok() {
                    return Err(say("the comparison held for the other order".into()));
                }
            }
        }
    }
    Ok(())
}

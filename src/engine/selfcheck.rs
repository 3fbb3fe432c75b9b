//! Whether a GPU computes what a plain computation does. Drivers do return zeros.

mod reference;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::network::NodeId;
use crate::graph::tensor::{Shape, Tensor};
use crate::model::Model;
use crate::model::preprocess::{Crop, Image};
use crate::plan::{Input, Plan, Work};

/// What is compared: it takes every operation to get there but those of the classifier.
const LAYER: &str = "inception_3a/output";
/// Side of the picture's corner that is computed plainly: a sixteenth of the work, and what a few cells of the layer see.
const CORNER: usize = 56;
/// How far a value may be off, as a part of the largest: a hundred times what rounding does.
const TOLERANCE: f32 = 1e-3;
/// The same where it multiplies in f16, which has 11 binary digits.
const TOLERANCE_F16: f32 = 1e-2;

/// A known picture, and what the first cells of the first module see in it.
pub struct SelfCheck {
    picture: Image,
    node: NodeId,
    /// On a corner; of its cells only the first `cells` in either direction are as on the whole picture.
    expected: Tensor,
    cells: usize,
}

impl SelfCheck {
    /// Computes what is to be expected; `None` for a network without the layer, or that reads no pictures.
    #[cold]
    pub fn new(model: &Model) -> Result<Option<Self>> {
        let (network, size) = (&model.network, model.preprocess.size);
        let inputs: Vec<Shape> = network.inputs().map(|id| network.node(id).shape).collect();
        let Ok(node) = network.find(LAYER) else { return Ok(None) };
        if inputs != [Shape::new(1, size, size, 3)] || size < CORNER {
            return Ok(None);
        }
        let picture = picture(size)?;
        let whole = model.preprocess.tensor(&[&picture], Crop::Center);
        let rows = whole.data.chunks_exact(3 * size).take(CORNER);
        let corner = Shape::new(1, CORNER, CORNER, 3);
        let corner = Tensor::new(corner, rows.flat_map(|row| &row[..3 * CORNER]).copied().collect())?;

        let part = network.until(node, CORNER)?;
        let expected = reference::last(&part, model, &corner)?;
        let field = part.node(node).field;
        let end = |cell: usize| field.start[0] + (cell * field.jump[0] + field.size[0]) as isize;
        let cells = (0..).take_while(|&cell| end(cell) <= CORNER as isize).count();
        Ok(Some(SelfCheck { picture, node, expected, cells }))
    }

    /// Runs the picture on a GPU that has taken on this plan of the whole network. [`Error::NoGpu`] with the first
    /// value that is wrong.
    pub async fn run(&self, gpu: &mut Gpu, plan: &Plan) -> Result<()> {
        let input = Input::Images(&[&self.picture], Crop::Center);
        gpu.run(Work::Until(input, self.node), &vec![1.0; plan.places.len()], false).await?;
        let tolerance = if gpu.is_half() { TOLERANCE_F16 } else { TOLERANCE };
        self.compare(&gpu.read(plan.places[self.node]).await?, tolerance)
    }

    fn compare(&self, found: &Tensor, tolerance: f32) -> Result<()> {
        let largest = self.expected.data.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let channels = self.expected.shape.c;
        for (y, x) in (0..self.cells).flat_map(|y| (0..self.cells).map(move |x| (y, x))) {
            let cell = |tensor: &Tensor| (y * tensor.shape.w + x) * channels;
            let pairs = self.expected.data[cell(&self.expected)..].iter().zip(&found.data[cell(found)..]);
            for (channel, (&right, &value)) in pairs.take(channels).enumerate() {
                // So that it is false for what is no number.
                let close = (value - right).abs() <= tolerance * largest;
                if !close {
                    // By JSON's own means: what else formats a number is 5 KB of every download.
                    let [value, right] = [value, right].map(|number| match serde_json::to_string(&number) {
                        Ok(text) if number.is_finite() => text,
                        _ => "no number".into(),
                    });
                    return Err(Error::NoGpu(format!(
                        "it computes wrongly: {LAYER} has {value} where {right} is right (row {y}, column {x}, \
                         channel {channel} of a test picture)"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Stripes of different widths and directions in each colour: something for every filter, and the same everywhere.
fn picture(size: usize) -> Result<Image> {
    let pixel = |at: usize| {
        let (x, y) = (at % size, at / size);
        let wave = |along: usize, width: usize| (along % width * 255 / (width - 1)) as u8;
        [wave(x + y, 17), wave(2 * x + 31 * y, 41), wave(5 * x * y + y, 29), 255]
    };
    Image::new(size, size, (0..size * size).flat_map(pixel).collect())
}

#[cfg(all(test, feature = "cpu", not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::cpu::threads::ThreadPool;
    use crate::gpu::PreparedGpu;
    use crate::model::weights::Weights;
    use crate::plan::ConcatMode;
    use pollster::block_on;

    fn model() -> Model {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
        Model::from_bytes(std::fs::read(path).unwrap()).unwrap()
    }

    /// The same with the weights of a layer a twentieth too large.
    fn odd_model(layer: &str) -> Model {
        let mut model = model();
        let tensors = model.weights.names().map(|name| {
            let (dims, mut values) = model.weights.get(name).unwrap();
            if name == format!("{layer}.weight") {
                values.iter_mut().for_each(|value| *value *= 1.05);
            }
            (name.to_owned(), dims.to_vec(), values)
        });
        model.weights = Weights::from_tensors(tensors.collect::<Vec<_>>()).unwrap();
        model
    }

    fn checked(check: &SelfCheck, model: &Model) -> Result<()> {
        let mut gpu = block_on(Gpu::load(block_on(PreparedGpu::new(false))?, model))?;
        let plan = Plan::new(&model.network, 1, ConcatMode::InPlace)?;
        gpu.prepare(&plan)?;
        block_on(check.run(&mut gpu, &plan))
    }

    #[test]
    fn a_gpu_that_computes_otherwise_is_found_out() {
        let check = SelfCheck::new(&model()).unwrap().unwrap();
        checked(&check, &model()).unwrap();
        for layer in ["conv1/7x7_s2", "inception_3a/5x5"] {
            let error = checked(&check, &odd_model(layer)).unwrap_err();
            assert_eq!(error.code(), "no-gpu", "{layer}");
            assert!(error.to_string().contains("computes wrongly: inception_3a/output has"), "{error}");
        }
        checked(&check, &odd_model("inception_4a/1x1")).unwrap();
    }

    #[test]
    fn the_corner_is_as_on_the_whole_picture() {
        let model = model();
        let check = SelfCheck::new(&model).unwrap().unwrap();
        assert!(check.cells >= 3, "{} cells", check.cells);
        let mut cpu = Cpu::new(&model, ThreadPool::new(1)).unwrap();
        let plan = Plan::new(&model.network, 1, ConcatMode::InPlace).unwrap();
        cpu.prepare(&plan).unwrap();
        let gains = vec![1.0; plan.places.len()];
        cpu.run(Work::Until(Input::Images(&[&check.picture], Crop::Center), check.node), &gains, false).unwrap();
        let mut found = cpu.read(plan.places[check.node]).unwrap();
        check.compare(&found, TOLERANCE).unwrap();
        assert!(found.data.iter().filter(|value| **value > 0.0).count() > found.data.len() / 10, "it says something");

        let further = SelfCheck { cells: check.cells + 1, ..SelfCheck::new(&model).unwrap().unwrap() };
        assert!(further.compare(&found, TOLERANCE).is_err(), "the next cells see what is outside of the corner");
        found.data[0] = f32::NAN;
        assert!(check.compare(&found, TOLERANCE).is_err());
        assert!(check.compare(&Tensor::zeros(found.shape), TOLERANCE).is_err());
    }
}

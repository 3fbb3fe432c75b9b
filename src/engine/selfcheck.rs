//! Checks that a GPU computes the same activations as plain loops on the CPU. Some drivers return zeros, for example.

mod reference;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::network::NodeId;
use crate::graph::tensor::{Shape, Tensor};
use crate::model::Model;
use crate::model::preprocess::{Crop, Image};
use crate::plan::{Input, Plan, Work};

/// The layer that is compared. Everything up to it uses every operation except those of the classifier.
const LAYER: &str = "inception_3a/output";
/// The side in pixels of the picture's corner that is computed on the CPU. It takes a sixteenth of the whole picture's
/// work, and contains the receptive fields of a few cells of the layer.
const CORNER: usize = 56;
/// The largest accepted difference, relative to the largest value: a hundred times what rounding causes.
const TOLERANCE: f32 = 1e-3;
/// The largest accepted difference where the GPU multiplies in f16, which has 11 significant bits.
const TOLERANCE_F16: f32 = 1e-2;

/// A test picture, and the expected activations of the first cells of [`LAYER`].
pub struct SelfCheck {
    picture: Image,
    node: NodeId,
    /// The layer's activations for the picture's corner.
    expected: Tensor,
    /// The number of cells in each direction whose receptive fields are inside the corner. Only these are the same as
    /// for the whole picture.
    cells: usize,
}

impl SelfCheck {
    /// Computes the expected activations. Returns `None` for a network that lacks the layer or does not read pictures.
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

    /// Runs the picture on a GPU that is prepared for this plan of the whole network. Fails with [`Error::NoGpu`],
    /// which names the first wrong value.
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
                // Written so that it is false for NaN.
                let close = (value - right).abs() <= tolerance * largest;
                if !close {
                    // Formatted by serde_json, as the standard library's code that formats an f32 would add 5 KB to
                    // every download.
                    let [value, right] = [value, right].map(|number| match serde_json::to_string(&number) {
                        Ok(text) if number.is_finite() => text,
                        _ => "a value that is not finite".into(),
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

/// The test picture: stripes of different widths and directions in each colour, so that filters of all kinds respond.
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

    /// The model with the weights of one layer 5 % too large.
    fn wrong_model(layer: &str) -> Model {
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
    fn a_gpu_with_wrong_results_is_rejected() {
        let check = SelfCheck::new(&model()).unwrap().unwrap();
        checked(&check, &model()).unwrap();
        for layer in ["conv1/7x7_s2", "inception_3a/5x5"] {
            let error = checked(&check, &wrong_model(layer)).unwrap_err();
            assert_eq!(error.code(), "no-gpu", "{layer}");
            assert!(error.to_string().contains("computes wrongly: inception_3a/output has"), "{error}");
        }
        checked(&check, &wrong_model("inception_4a/1x1")).unwrap();
    }

    #[test]
    fn the_corner_has_the_same_activations_as_the_whole_picture() {
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
        assert!(
            found.data.iter().filter(|value| **value > 0.0).count() > found.data.len() / 10,
            "the layer responds to the picture"
        );

        let further = SelfCheck { cells: check.cells + 1, ..SelfCheck::new(&model).unwrap().unwrap() };
        assert!(further.compare(&found, TOLERANCE).is_err(), "the next cells depend on pixels outside the corner");
        found.data[0] = f32::NAN;
        assert!(check.compare(&found, TOLERANCE).is_err());
        assert!(check.compare(&Tensor::zeros(found.shape), TOLERANCE).is_err());
    }
}

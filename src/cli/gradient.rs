//! `googlenet gradient`: the gradient of a class's score with respect to the network's input.

use super::common::{self, in_file};
use googlenet::engine::gradient::{Objective, Wrt};
use googlenet::engine::{Backend, Engine, Options};
use googlenet::model::Model;
use googlenet::model::preprocess::{Crop, Image};
use googlenet::plan::Input;
use std::fs;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the gradient of a class's score with respect to the network's input
///
/// The file is a NumPy array of 32-bit floats, (height, width, channels), in the network's own channel order and scale:
/// element (y, x, c) says how much the score changes if that value of the preprocessed picture grows by one.
#[derive(clap::Args)]
pub struct Args {
    /// A JPEG, PNG, GIF, WebP or BMP file
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The .npy file to write
    #[arg(short, long, value_name = "FILE.npy")]
    output: PathBuf,
    /// A safetensors model [default: $GOOGLENET_MODEL, or the bundled one]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// The class, by its number or its label [default: the most probable class]
    #[arg(long, value_name = "K")]
    class: Option<String>,
    /// The head: loss3 (the classifier), loss1 or loss2 (the auxiliary heads)
    #[arg(long, default_value = "loss3")]
    head: String,
    /// What is differentiated: the class's score before the softmax, or its probability
    #[arg(long, value_enum, default_value = "score")]
    of: Of,
    /// How the picture becomes square: center, squash or fit, as for classify
    #[arg(long, default_value = "center")]
    crop: Crop,
    /// auto, cpu or gpu; auto is the GPU if there is a real one, otherwise the CPU
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Number of threads on the CPU [default: the number of cores, at most 8]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    Score,
    Probability,
}

pub fn run(args: Args) -> common::Result {
    let path = match &args.model {
        Some(path) => path.clone(),
        None => common::default_model()?,
    };
    let model = common::load(&path)?;
    if !model.network.heads().iter().any(|head| head.name == args.head) {
        let names: Vec<&str> = model.network.heads().iter().map(|head| head.name.as_str()).collect();
        return Err(format!("the model has no head \"{}\"; it has {}", args.head, names.join(", ")).into());
    }
    let class = args.class.as_deref().map(|class| find(&model, class)).transpose()?;
    let image = Image::decode(&common::read(&args.image)?).map_err(|e| in_file(&args.image, e))?;
    let options = Options { backend: args.backend, threads: args.threads, gradients: true, ..Options::default() };
    let mut engine = pollster::block_on(Engine::with(model, options)).map_err(|e| in_file(&path, e))?;
    let input = Input::Images(&[&image], args.crop);
    let class = match class {
        Some(class) => class,
        None => {
            let output = pollster::block_on(engine.run_input(input))?;
            let head = output.heads.iter().find(|head| head.name == args.head);
            head.and_then(|head| head.top(0, 1).first().copied()).map_or(0, |(class, _)| class)
        }
    };
    let objective = match args.of {
        Of::Score => Objective::Score { head: &args.head, class },
        Of::Probability => Objective::Probability { head: &args.head, class },
    };
    let gradients = pollster::block_on(engine.gradient(input, &objective, Wrt::Input))?;
    let Some(layer) = gradients.layer else { return Err("the network has no input".into()) };
    let [h, w, c] = [layer.shape.h, layer.shape.w, layer.shape.c];
    write_npy(&args.output, &[h, w, c], layer.image(0))?;
    let label = engine.model().labels.get(class).map_or(String::new(), |label| format!(" ({label})"));
    let what = if args.of == Of::Score { "score" } else { "probability" };
    let norm = layer.data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    writeln!(
        stdout(),
        "{}: the gradient of the {what} of class {class}{label}, which is {:.6}, with respect to the input, {h}x{w}x{c}; \
         its norm is {norm:.6e}",
        args.output.display(),
        gradients.value
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The class of this number or label.
fn find(model: &Model, class: &str) -> common::Result<usize> {
    let by_label = || model.labels.iter().position(|label| label == class);
    let found = class.parse().ok().filter(|&class| class < model.spec.classes).or_else(by_label);
    found.ok_or_else(|| {
        format!("the model has no class \"{class}\"; its classes have the numbers 0 to {}", model.spec.classes - 1)
            .into()
    })
}

/// Writes an array of f32 in NumPy's format, version 1.0.
fn write_npy(path: &Path, dims: &[usize], values: &[f32]) -> common::Result<()> {
    let dims: Vec<String> = dims.iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    // The data begins at a multiple of 64 bytes, after 10 bytes of magic, version and length, and a line feed.
    let length = (header.len() + 11).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(length - header.len() - 1));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    fs::write(path, bytes).map_err(|e| in_file(path, e))
}

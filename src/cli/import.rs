//! `googlenet import`: converts another framework's weights into a model file.

use googlenet::graph::googlenet::Variant;
use googlenet::graph::summary::thousands;
use googlenet::model::import::{Options, import};
use googlenet::model::preprocess::Order;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Convert weights of Keras, Caffe, ONNX or torchvision into a model file
#[derive(clap::Args)]
pub struct Args {
    /// The file that the other framework wrote
    file: PathBuf,
    /// The model file to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// A text file with one class name per line, in output order
    #[arg(long, value_name = "PATH")]
    labels: Option<PathBuf>,
    /// Mean of each input channel, in the order of --order [default: the format's; required for Keras networks]
    #[arg(long, value_name = "R,G,B", value_parser = triple, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// Standard deviation of each input channel
    #[arg(long, value_name = "R,G,B", value_parser = triple)]
    std: Option<[f32; 3]>,
    /// Factor for pixel values 0..255, applied before the mean is subtracted
    #[arg(long)]
    scale: Option<f32>,
    /// Order of the input's channels: RGB or BGR
    #[arg(long, value_parser = order)]
    order: Option<Order>,
    /// keras, keras_v2, caffe or torchvision [default: inferred from the file]
    #[arg(long)]
    variant: Option<Variant>,
    /// The model's name
    #[arg(long)]
    name: Option<String>,
    /// Store the weights as f16, which halves the file's size
    #[arg(long)]
    half: bool,
}

pub fn run(args: Args) -> super::common::Result {
    let labels = match &args.labels {
        Some(path) => Some(lines(&fs::read_to_string(path).map_err(|e| super::common::in_file(path, e))?)),
        None => None,
    };
    let options = Options {
        name: args.name,
        source: args.file.file_name().map(|name| format!("imported from {}", name.display())),
        labels,
        mean: args.mean,
        std: args.std,
        scale: args.scale,
        order: args.order,
        variant: args.variant,
        half: args.half,
    };
    let imported =
        import(&super::common::read(&args.file)?, &options).map_err(|e| super::common::in_file(&args.file, e))?;
    fs::write(&args.output, &imported.bytes).map_err(|e| super::common::in_file(&args.output, e))?;

    let model = &imported.model;
    for note in &model.notes {
        eprintln!("note: {note}");
    }
    let heads: Vec<&str> = model.network.heads().iter().map(|head| head.name.as_str()).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} from {}", args.output.display(), imported.format)?;
    for (what, value) in [
        ("name", model.name.clone()),
        ("variant", model.spec.variant.to_string()),
        ("classes", model.spec.classes.to_string()),
        ("parameters", thousands(model.network.total_params() as u64)),
        ("heads", heads.join(", ")),
        ("bytes", thousands(imported.bytes.len() as u64)),
    ] {
        writeln!(out, "  {what:<11} {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of a file of labels, without empty lines at its end.
fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| line.trim().to_owned()).collect()
}

fn triple(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    let numbers = numbers.ok().and_then(|n| <[f32; 3]>::try_from(n).ok());
    numbers.ok_or_else(|| "expected three numbers separated by commas, e.g. 123,117,104".into())
}

fn order(text: &str) -> Result<Order, String> {
    match text.to_ascii_uppercase().as_str() {
        "RGB" => Ok(Order::Rgb),
        "BGR" => Ok(Order::Bgr),
        _ => Err("expected RGB or BGR".into()),
    }
}

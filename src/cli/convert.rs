//! `googlenet convert`: writes a model file with another element type, without its heads, or with other metadata.

use clap::ValueEnum;
use googlenet::graph::summary::thousands;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Convert a model file to f32, f16 or int8, with or without its auxiliary heads
#[derive(clap::Args)]
pub struct Args {
    /// A safetensors model
    file: PathBuf,
    /// The model file to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Element type of the weights; int8 has one scale for each output channel
    #[arg(long, value_enum, default_value_t = Dtype::F16)]
    dtype: Dtype,
    /// Remove the auxiliary heads
    #[arg(long)]
    no_heads: bool,
    /// The model's new name [default: the name in the file]
    #[arg(long)]
    name: Option<String>,
    /// Where the weights come from [default: the source in the file]
    #[arg(long)]
    source: Option<String>,
    /// The licence of the weights [default: the licence in the file]
    #[arg(long)]
    license: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Int8,
}

pub fn run(args: Args) -> super::common::Result {
    let mut model = super::common::load(&args.file)?;
    if args.no_heads {
        model = model.without_heads()?;
    }
    model.name = args.name.unwrap_or(model.name);
    model.source = args.source.or(model.source);
    model.license = args.license.or(model.license);
    let metadata = model.metadata()?;
    let weights = if args.dtype == Dtype::Int8 { model.weights.quantized()? } else { model.weights };
    let bytes = weights.to_bytes(&metadata, args.dtype != Dtype::F32)?;
    fs::write(&args.output, &bytes).map_err(|e| super::common::in_file(&args.output, e))?;
    let size = thousands(bytes.len() as u64);
    writeln!(std::io::stdout(), "{}: {}, {size} bytes", args.output.display(), model.name)?;
    Ok(ExitCode::SUCCESS)
}

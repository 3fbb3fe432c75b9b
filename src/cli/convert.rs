//! `googlenet convert`: a model file stored differently.

use clap::ValueEnum;
use googlenet::graph::summary::thousands;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Store a model differently: f32, f16 or int8, with or without its auxiliary heads
#[derive(clap::Args)]
pub struct Args {
    /// A safetensors model
    file: PathBuf,
    /// The model file to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// How to store the weights; int8 has one scale an output channel
    #[arg(long, value_enum, default_value_t = Dtype::F16)]
    dtype: Dtype,
    /// Leave the auxiliary heads out
    #[arg(long)]
    no_heads: bool,
    /// The model's name, instead of the one it has
    #[arg(long)]
    name: Option<String>,
    /// Where the weights are from
    #[arg(long)]
    source: Option<String>,
    /// What may be done with them
    #[arg(long)]
    license: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Int8,
}

pub fn run(args: Args) -> super::Result {
    let mut model = super::load(&args.file)?;
    if args.no_heads {
        model = model.without_heads()?;
    }
    model.name = args.name.unwrap_or(model.name);
    model.source = args.source.or(model.source);
    model.license = args.license.or(model.license);
    let metadata = model.metadata()?;
    let weights = if args.dtype == Dtype::Int8 { model.weights.quantized()? } else { model.weights };
    let bytes = weights.to_bytes(&metadata, args.dtype != Dtype::F32)?;
    fs::write(&args.output, &bytes).map_err(|e| super::in_file(&args.output, e))?;
    let size = thousands(bytes.len() as u64);
    writeln!(std::io::stdout(), "{}: {}, {size} bytes", args.output.display(), model.name)?;
    Ok(ExitCode::SUCCESS)
}

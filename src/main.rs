//! The command line.

use clap::{Parser, Subcommand};
use googlenet::googlenet::{Spec, Variant};
use googlenet::{Result, summary};
use std::process::ExitCode;

/// GoogLeNet (Inception v1) on the GPU, or on the CPU where there is none.
#[derive(Parser)]
#[command(name = "googlenet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a network as a table: layer, output shape, parameters, multiply-adds, connected to
    Summary {
        /// keras, keras_v2, caffe or torchvision
        #[arg(long, default_value = "keras")]
        variant: Variant,
        #[arg(long, default_value_t = 1000)]
        classes: usize,
        /// Leave the auxiliary heads out
        #[arg(long)]
        no_heads: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("googlenet: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Summary { variant, classes, no_heads } => {
            let network = Spec { variant, classes, heads: !no_heads, ..Spec::default() }.build()?;
            print!("{}", summary::table(&network));
        }
    }
    Ok(())
}

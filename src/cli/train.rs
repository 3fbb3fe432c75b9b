//! `googlenet train`: trains a model on a folder of pictures.

mod args;
mod data;
mod deep;
mod features;
mod head;
mod output;
mod pictures;
mod progress;
mod report;

pub use args::Args;
use args::Depth;
use data::Data;
use output::Target;
use std::process::ExitCode;

pub fn run(args: Args) -> super::common::Result {
    let depth = match args.check() {
        Ok(depth) => depth,
        Err(reason) => {
            super::common::complain(&reason);
            return Ok(ExitCode::from(2));
        }
    };
    // A wrong path fails before anything runs.
    let model = Target::new(&args.output)?;
    let json = args.json.as_deref().map(Target::new).transpose()?;
    let plot = args.plot.as_deref().map(Target::new).transpose()?;
    let data = Data::read(&args)?;
    match depth {
        Depth::Head => head::run(&args, &data, &model, json.as_ref()),
        Depth::Module(_) | Depth::All => deep::run(&args, depth, &data, &model, json.as_ref(), plot.as_ref()),
    }
}

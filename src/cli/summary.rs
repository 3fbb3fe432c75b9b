//! `googlenet summary`: prints a network as a table.

use googlenet::graph::googlenet::{Spec, TABLE, Variant, module_network};
use googlenet::graph::summary::{modules, table};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print a network as a table: layer, output shape, parameters, multiply-adds, inputs
#[derive(clap::Args)]
pub struct Args {
    /// keras, keras_v2, caffe or torchvision
    #[arg(long, default_value = "keras")]
    variant: Variant,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 1000)]
    classes: usize,
    /// Without the auxiliary heads
    #[arg(long)]
    no_heads: bool,
    /// Print only one inception module: 3a, 3b, 4a ... 5b
    #[arg(long, value_name = "MODULE", conflicts_with_all = ["classes", "no_heads"])]
    module: Option<String>,
    /// Print the naive module (the paper's figure 2a) before the one with reductions (figure 2b)
    #[arg(long, requires = "module")]
    naive: bool,
    /// Print one line for each inception module and each auxiliary head, with the sums of its layers
    #[arg(long, conflicts_with = "module")]
    modules: bool,
    /// Print the network of this model file
    #[arg(long, value_name = "PATH", conflicts_with_all = ["variant", "classes", "no_heads", "module"])]
    model: Option<PathBuf>,
}

pub fn run(args: Args) -> super::common::Result {
    let spec = Spec { variant: args.variant, classes: args.classes, heads: !args.no_heads, ..Spec::default() };
    let table = if args.modules { modules } else { table };
    let text = match (&args.model, &args.module) {
        (Some(path), _) => table(&super::common::load(path)?.network),
        (None, Some(name)) => module(&spec, name, args.naive)?,
        (None, None) => table(&spec.build()?),
    };
    write!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// The table of a module for the input shape that it has in the whole network. With `naive`, the table of the naive
/// module comes first.
fn module(spec: &Spec, name: &str, naive: bool) -> super::common::Result<String> {
    let Some(row) = TABLE.iter().find(|row| row.name == name) else {
        let names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        return Err(format!("\"{name}\" is not an inception module; the modules are {}", names.join(", ")).into());
    };
    let whole = spec.build()?;
    let input = whole.input_shape(whole.find(&format!("{}/1x1", row.module()))?);
    let one = |naive| Ok::<_, googlenet::Error>(table(&module_network(spec.variant, row, input, naive)?));
    if !naive {
        return Ok(one(false)?);
    }
    Ok(format!("Naive (figure 2a)\n{}\nWith reductions (figure 2b)\n{}", one(true)?, one(false)?))
}

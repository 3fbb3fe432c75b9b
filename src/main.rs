//! The command line.

#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
mod cli;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    cli::main()
}

/// A browser has no command line; cargo builds the program there beside the browser's tests.
#[cfg(target_arch = "wasm32")]
fn main() {}

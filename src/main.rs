//! The command line.

#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
mod cli;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    cli::main()
}

/// Does nothing. A browser has no command line, but cargo also builds this program when it builds the tests for
/// browsers.
#[cfg(target_arch = "wasm32")]
fn main() {}

//! Shaders without their comments and indentation: every byte of them is downloaded.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=shaders");
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    for entry in fs::read_dir("shaders")? {
        let path = entry?.path();
        // A shader has no strings, so that `//` can only begin a comment.
        let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
        let lines: Vec<String> = fs::read_to_string(&path)?.lines().map(code).filter(|line| !line.is_empty()).collect();
        if let Some(name) = path.file_name() {
            fs::write(Path::new(&out).join(name), lines.join("\n"))?;
        }
    }
    Ok(())
}

//! Shaders without their comments and needless spaces: every byte of them is downloaded.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=shaders");
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    for entry in fs::read_dir("shaders")? {
        let path = entry?.path();
        // A shader has no strings, so that `//` can only begin a comment.
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        let text: String = fs::read_to_string(&path)?.lines().map(code).collect::<Vec<_>>().join(" ");
        if let Some(name) = path.file_name() {
            fs::write(Path::new(&out).join(name), squeezed(&text))?;
        }
    }
    Ok(())
}

/// One space where there must be one: between words, and between signs that would become another.
fn squeezed(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    for word in text.split_whitespace() {
        if let (Some(last), Some(next)) = (out.chars().last(), word.chars().next())
            && (is_word(last) && is_word(next) || last == '-' && next == '-')
        {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

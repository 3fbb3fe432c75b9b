//! `cargo xtask fuzz`: runs every parser with libFuzzer, starting from the corpus in `fuzz/corpus`.

use crate::{repo, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs in `fuzz/fuzz_targets`.
const TARGETS: [&str; 8] = ["safetensors", "checkpoint", "caffe", "onnx", "hdf5", "archive", "picture", "plan"];
const CARGO_FUZZ: &str = "0.13.2";

#[derive(clap::Args)]
pub struct Options {
    /// Number of seconds for each target
    #[arg(long, value_name = "N", default_value = "60")]
    seconds: u32,
    /// Run only these targets
    #[arg(long = "target", value_name = "NAME", value_parser = TARGETS)]
    targets: Vec<String>,
}

/// Builds the targets, runs them one after the other, and prints a summary of each. Inputs that fail are kept, and the
/// command that replays them is printed.
pub fn run(options: &Options) -> Result<()> {
    let programs = build()?;
    let wanted = |target: &&str| options.targets.is_empty() || options.targets.iter().any(|name| name == *target);
    let mut lines = Vec::new();
    let mut found = Vec::new();
    for target in TARGETS.into_iter().filter(wanted) {
        println!("\n=== {target}");
        let (line, finding) = fuzz(&programs, target, options.seconds)?;
        println!("{line}");
        lines.push(line);
        found.extend(finding);
    }
    println!("\n{}", lines.join("\n"));
    if !found.is_empty() {
        bail!("{} of {} targets found something; to replay it:\n{}", found.len(), lines.len(), found.join("\n"));
    }
    Ok(())
}

/// Builds the targets, and returns the folder of the programs. Requires nightly Rust, for sanitizers and coverage, and
/// cargo-fuzz.
fn build() -> Result<PathBuf> {
    let root = repo::target().join("tools");
    let cargo_fuzz = root.join("bin/cargo-fuzz");
    let found = shell::output(Command::new(&cargo_fuzz).args(["fuzz", "--version"]));
    if found.is_none_or(|line| !line.ends_with(CARGO_FUZZ)) {
        shell::run(shell::cargo(&["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]).arg(&root))?;
    }
    let mut build = Command::new(cargo_fuzz);
    build.args(["fuzz", "build", "--target-dir"]).arg(target_dir()).current_dir(repo::root());
    shell::run(build.env("RUSTC_BOOTSTRAP", "1"))?;
    let host = shell::output(Command::new("rustc").args(["--print", "host-tuple"]).current_dir(repo::root()));
    Ok(target_dir().join(host.context("there is no rustc")?).join("release"))
}

fn target_dir() -> PathBuf {
    repo::root().join("fuzz/target")
}

/// Runs one target. New inputs are kept under `target`, separately from the corpus. Returns a summary and, if an input
/// fails, the command that replays it.
fn fuzz(programs: &Path, target: &str, seconds: u32) -> Result<(String, Option<String>)> {
    let (learnt, artifacts) =
        (repo::target().join("fuzz").join(target), repo::root().join("fuzz/artifacts").join(target));
    fs::create_dir_all(&learnt)?;
    fs::create_dir_all(&artifacts)?;
    let program = programs.join(target);
    let output = Command::new(&program)
        .arg(&learnt)
        .arg(repo::root().join("fuzz/corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-max_len=16384"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let finding = if output.status.success() {
        None
    } else {
        // The cause is at the end of the log, before the statistics.
        let end: Vec<&str> = log.lines().rev().take(60).collect();
        println!("{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        let file = log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, file)| file.trim()));
        Some(format!("{} {}", program.display(), file.unwrap_or("(no file was written)")))
    };
    Ok((summary(target, &log, finding.is_some()), finding))
}

/// The number of cases, their rate, and the number of covered edges of the code with the corpus and at the end.
fn summary(target: &str, log: &str, found: bool) -> String {
    let stat = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("?", str::trim)
    };
    let covered = |line: &str| -> Option<u64> { line.split("cov: ").nth(1)?.split(' ').next()?.parse().ok() };
    let first = log.lines().filter(|line| line.contains("INITED")).find_map(covered).unwrap_or_default();
    let last = log.lines().rev().find_map(covered).unwrap_or(first);
    format!(
        "{target:<12} {:>9} cases, {:>6}/s, {first} to {last} edges, {} MB, {}",
        stat("number_of_executed_units"),
        stat("average_exec_per_sec"),
        stat("peak_rss_mb"),
        if found { "FOUND SOMETHING" } else { "nothing found" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_one_line() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/3b exec/s: 0 rss: 40Mb\n#9\tNEW    cov: 25 ft: 30 corp: 2/4b\n\
                   stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     450\nstat::peak_rss_mb: 41\n";
        let line = "plan               900 cases,    450/s, 10 to 25 edges, 41 MB, nothing found";
        assert_eq!(summary("plan", log, false), line);
    }

    #[test]
    fn every_target_is_a_program() {
        let manifest = fs::read_to_string(repo::root().join("fuzz/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        assert!(TARGETS.iter().all(|target| manifest.contains(&format!("name = \"{target}\""))));
    }
}

//! Compiles what later test steps need while earlier steps test in browsers.
//!
//! Tests in browsers spend much of their time waiting: for a page to load, for a timer, or for the work of one thread.
//! A second process of this program uses this time. It runs under `nice`, which also applies to the compilers that it
//! starts, so the browsers are hardly slowed down.

use crate::shell;
use anyhow::Result;
use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// The second process prints one of these before the name of a step, depending on whether preparing the step has
/// succeeded.
const PREPARED: &str = "prepared: ";
const FAILED: &str = "not prepared: ";

/// The second process.
pub struct Ahead {
    child: Child,
    /// The steps that are finished, and whether preparing them has succeeded.
    prepared: RefCell<Vec<(String, bool)>>,
    reports: Receiver<(String, bool)>,
}

impl Ahead {
    /// Starts to prepare these steps, in this order. Returns `None` if there is no `nice` or nothing to prepare; then
    /// each step prepares itself.
    pub fn start(steps: &[&str]) -> Result<Option<Self>> {
        let Some(nice) = shell::find("nice") else { return Ok(None) };
        if steps.is_empty() {
            return Ok(None);
        }
        let mut command = Command::new(nice);
        command.args(["-n", "19"]).arg(env::current_exe()?).args(["test", "--prepare"]).args(steps);
        // Output is discarded, because a step that could not be prepared here prepares itself, and then reports the
        // error.
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (report, reports) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let parse = |prefix, prepared| Some((line.strip_prefix(prefix)?.to_owned(), prepared));
                    if let Some(result) = parse(PREPARED, true).or_else(|| parse(FAILED, false)) {
                        let _ = report.send(result);
                    }
                }
            });
        }
        println!("Meanwhile, at low priority, what these steps need is compiled: {}", steps.join(", "));
        Ok(Some(Self { child, prepared: RefCell::default(), reports }))
    }

    /// Waits until a step is prepared or the process has ended. Returns whether the step is prepared.
    pub fn wait(&self, step: &str) -> bool {
        let mut prepared = self.prepared.borrow_mut();
        loop {
            if let Some((_, succeeded)) = prepared.iter().find(|(name, _)| name == step) {
                return *succeeded;
            }
            match self.reports.recv() {
                Ok(report) => prepared.push(report),
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Usually the process has ended. If a step has stopped the tests early, its results are not needed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports to the first process that preparing a step has ended.
pub fn report(step: &str, succeeded: bool) {
    println!("{}{step}", if succeeded { PREPARED } else { FAILED });
}

//! Compiles what later test steps need while earlier steps test in browsers.
//!
//! Browser tests wait much of the time: for a page to load, for a timer, for one thread's work. A second process of this
//! program uses these moments. It runs under `nice`, which holds for every compiler that it starts, so that the browsers
//! are hardly slower.

use crate::shell;
use anyhow::Result;
use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// What the second process prints before the name of a step whose preparation has ended: well, or not.
const PREPARED: &str = "prepared: ";
const FAILED: &str = "not prepared: ";

/// The second process, while it runs.
pub struct Ahead {
    child: Child,
    /// Steps whose preparation has ended, and whether it succeeded.
    prepared: RefCell<Vec<(String, bool)>>,
    told: Receiver<(String, bool)>,
}

impl Ahead {
    /// Starts to prepare these steps, in this order. `None` where there is no `nice`, or nothing to prepare: then each
    /// step does its own work when its turn comes.
    pub fn start(steps: &[&str]) -> Result<Option<Self>> {
        let Some(nice) = shell::find("nice") else { return Ok(None) };
        if steps.is_empty() {
            return Ok(None);
        }
        let mut command = Command::new(nice);
        command.args(["-n", "19"]).arg(env::current_exe()?).args(["test", "--prepare"]).args(steps);
        // A step does again what failed here, and then says what is wrong.
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (tell, told) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let told = |prefix, prepared| Some((line.strip_prefix(prefix)?.to_owned(), prepared));
                    if let Some(told) = told(PREPARED, true).or_else(|| told(FAILED, false)) {
                        let _ = tell.send(told);
                    }
                }
            });
        }
        println!("Meanwhile, at low priority, what these steps need is compiled: {}", steps.join(", "));
        Ok(Some(Self { child, prepared: RefCell::default(), told }))
    }

    /// Waits until a step is prepared, or the process has ended; gives whether it is prepared.
    pub fn wait(&self, step: &str) -> bool {
        let mut prepared = self.prepared.borrow_mut();
        loop {
            if let Some((_, succeeded)) = prepared.iter().find(|(name, _)| name == step) {
                return *succeeded;
            }
            match self.told.recv() {
                Ok(told) => prepared.push(told),
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // It has usually ended. Where a step stopped the tests, its work is of no more use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says to the first process that a step's preparation has ended.
pub fn tell(step: &str, succeeded: bool) {
    println!("{}{step}", if succeeded { PREPARED } else { FAILED });
}

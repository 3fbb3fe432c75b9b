//! Runs jobs in parallel, with a line of progress that shows what each job is doing and for how long. The output of
//! programs is captured, and shown only if they fail.

use anyhow::{Context, Result, anyhow, bail};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The time between two lines of progress. A terminal shows one line, which is rewritten; other outputs get separate
/// lines.
const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(15);

/// The work of a job.
type Work<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

/// Several jobs, each of which runs on a thread of its own.
#[derive(Default)]
pub struct Jobs<'a>(Vec<(&'static str, Work<'a>)>);

thread_local! {
    /// What the job of this thread is doing, for the line of progress.
    static DOING: RefCell<Option<Arc<Mutex<String>>>> = const { RefCell::new(None) };
}

impl<'a> Jobs<'a> {
    pub fn add(&mut self, name: &'static str, work: impl FnOnce() -> Result<()> + Send + 'a) {
        self.0.push((name, Box::new(work)));
    }

    /// Runs all jobs in parallel. After all have ended, fails with the error of the first job in the list that failed.
    pub fn run(self) -> Result<()> {
        let start = Instant::now();
        let (tell, ended_jobs) = channel();
        let mut open: Vec<(&str, Arc<Mutex<String>>)> = Vec::new();
        thread::scope(|scope| {
            let mut results = Vec::new();
            for (at, (name, work)) in self.0.into_iter().enumerate() {
                let doing = Arc::new(Mutex::new(String::new()));
                open.push((name, doing.clone()));
                let tell = tell.clone();
                results.push(scope.spawn(move || {
                    DOING.with(|cell| cell.replace(Some(doing)));
                    let result = work();
                    // Sending fails only if the receiver has panicked, which is reported anyway.
                    let _ = tell.send((at, result.is_ok()));
                    result.with_context(|| format!("{name} failed"))
                }));
            }
            watch(&ended_jobs, &open, start);
            let results: Vec<Result<()>> =
                results.into_iter().map(|job| job.join().unwrap_or_else(|_| Err(anyhow!("a job panicked")))).collect();
            results.into_iter().collect()
        })
    }
}

/// Does work without showing the output of programs. If a program fails, the error contains its output.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let before = DOING.with(|cell| cell.replace(Some(Arc::default())));
    let result = work();
    DOING.with(|cell| cell.replace(before));
    result
}

/// Prints progress until all jobs have ended.
fn watch(ended_jobs: &std::sync::mpsc::Receiver<(usize, bool)>, jobs: &[(&str, Arc<Mutex<String>>)], start: Instant) {
    let mut running: Vec<usize> = (0..jobs.len()).collect();
    let terminal = std::io::stderr().is_terminal();
    let seconds = || start.elapsed().as_secs();
    let say = |line: String| match terminal {
        true => eprintln!("\r\x1b[2K{line}"),
        false => eprintln!("{line}"),
    };
    while !running.is_empty() {
        match ended_jobs.recv_timeout(if terminal { ON_TERMINAL } else { ELSEWHERE }) {
            Ok((at, ok)) => {
                running.retain(|&other| other != at);
                say(format!("[{:>4} s] {}: {}", seconds(), jobs[at].0, if ok { "done" } else { "failed" }));
            }
            Err(RecvTimeoutError::Timeout) => {
                let doing = |&at: &usize| {
                    let (name, doing) = &jobs[at];
                    match doing.lock().unwrap_or_else(PoisonError::into_inner).as_str() {
                        "" => (*name).to_owned(),
                        doing => format!("{name} ({doing})"),
                    }
                };
                let line = format!("[{:>4} s] {}", seconds(), running.iter().map(doing).collect::<Vec<_>>().join("; "));
                if terminal {
                    // The width of the narrowest common terminal, so that the line can be rewritten.
                    eprint!("\r\x1b[2K{}", line.chars().take(79).collect::<String>());
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{line}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The functions with which a job reports progress and runs programs.
pub struct Job;

impl Job {
    /// Sets what the job of this thread is doing.
    pub fn say(what: String) {
        DOING.with(|cell| {
            if let Some(doing) = &*cell.borrow() {
                *doing.lock().unwrap_or_else(PoisonError::into_inner) = what;
            }
        });
    }

    /// Runs a program. The last line that it prints is shown as what the job is doing. If the program fails, the error
    /// contains all of its output.
    pub fn run(command: &mut Command) -> Result<()> {
        if DOING.with(|cell| cell.borrow().is_none()) {
            return crate::shell::run(command);
        }
        let line = crate::shell::show(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let mut output = child.stdout.take().context("its output is not piped")?;
        // Another thread reads the standard output, so that neither pipe can fill up.
        let other = thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            text
        });
        let mut log = String::new();
        for text in BufReader::new(child.stderr.take().context("its errors are not piped")?).lines() {
            let text = text?;
            Job::say(text.trim().to_owned());
            log.push_str(&text);
            log.push('\n');
        }
        let printed = other.join().unwrap_or_default();
        let status = child.wait()?;
        if !status.success() {
            bail!("`{line}` failed ({status}):\n{log}{printed}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_returned_after_all_have_ended() {
        let ended = Mutex::new(0);
        let mut jobs = Jobs::default();
        jobs.add("one", || bail!("of the first"));
        jobs.add("two", || {
            thread::sleep(Duration::from_millis(50));
            *ended.lock().unwrap() += 1;
            Ok(())
        });
        let error = format!("{:#}", jobs.run().unwrap_err());
        assert!(error.contains("one failed: of the first"), "{error}");
        assert_eq!(*ended.lock().unwrap(), 1);
    }

    #[test]
    fn the_error_has_the_output_of_the_failed_program() {
        let mut jobs = Jobs::default();
        jobs.add("cargo", || Job::run(Command::new("cargo").arg("--no-such-option")));
        let error = format!("{:#}", jobs.run().unwrap_err());
        assert!(error.contains("--no-such-option") && error.contains("unexpected argument"), "{error}");
    }
}

//! Progress on stderr: a bar on a terminal, and a line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// The width of the bar in characters.
const BAR: usize = 24;

pub struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    started: Instant,
    printed: Instant,
    terminal: bool,
}

impl Progress {
    /// Progress through this many pictures, none of which is done.
    pub fn new(what: &'static str, total: usize) -> Self {
        let now = Instant::now();
        Progress { what, total, done: 0, started: now, printed: now, terminal: stderr().is_terminal() }
    }

    /// Adds pictures that are done.
    pub fn add(&mut self, pictures: usize) {
        self.done += pictures;
        let pause = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(5) };
        if self.printed.elapsed() < pause {
            return;
        }
        self.printed = Instant::now();
        let line = line(self.what, self.done, self.total, self.started.elapsed().as_secs_f64());
        // Progress that cannot be shown is no reason to stop.
        let _ = if self.terminal {
            write!(stderr(), "\r\x1b[K{}{line}", bar(self.done, self.total))
        } else {
            writeln!(stderr(), "{line}")
        };
    }

    /// Removes the bar. Returns the seconds since the beginning.
    pub fn finish(self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn bar(done: usize, total: usize) -> String {
    let full = BAR * done.min(total) / total.max(1);
    format!("{}{} ", "█".repeat(full), "░".repeat(BAR - full))
}

fn line(what: &str, done: usize, total: usize, seconds: f64) -> String {
    let rate = done as f64 / seconds.max(1e-9);
    let left = (total.saturating_sub(done)) as f64 / rate.max(1e-9);
    format!("{what}: {done} of {total} pictures, {rate:.1} a second, {} left", duration(left))
}

/// A duration for people, rounded up to a unit that does not jump about.
fn duration(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5999 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_rate_and_the_time_left() {
        assert_eq!(line("features", 30, 90, 2.0), "features: 30 of 90 pictures, 15.0 a second, 4 s left");
        assert_eq!(line("features", 1, 1001, 1.0), "features: 1 of 1001 pictures, 1.0 a second, 17 min left");
        assert_eq!(line("features", 1, 10_001, 1.0), "features: 1 of 10001 pictures, 1.0 a second, 2 h 46 min left");
        assert_eq!(bar(1, 2), format!("{}{} ", "█".repeat(12), "░".repeat(12)));
        assert_eq!((bar(0, 0).chars().count(), bar(9, 2).chars().count()), (25, 25));
    }
}

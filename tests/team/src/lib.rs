//! The engine's thread pool in a browser, without a network. `www/tests/page/team-worker.ts` runs it.
#![cfg(all(target_arch = "wasm32", target_feature = "atomics"))]

#[allow(dead_code)]
#[path = "../../../src/cpu/threads.rs"]
mod team;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use team::ThreadPool;
use wasm_bindgen::prelude::*;
use web_time::{Duration, Instant};

/// The engine's helper thread.
#[wasm_bindgen]
pub struct Helper(team::Helper);

#[wasm_bindgen]
impl Helper {
    pub fn arrive() -> Helper {
        Helper(team::Helper::arrive())
    }

    pub fn work(&self) {
        self.0.work();
    }

    pub fn fail(&self) {
        self.0.fail();
    }
}

/// A pool of the helpers that have arrived.
#[wasm_bindgen]
pub struct Crew(ThreadPool);

#[wasm_bindgen]
impl Crew {
    #[wasm_bindgen(constructor)]
    pub fn new(threads: usize) -> Crew {
        Crew(ThreadPool::new(threads))
    }

    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Runs every number of tasks, short and long ones, directly after each other and after pauses. Returns the first
    /// error, or an empty string.
    pub fn exercise(&self) -> String {
        let size = self.0.size();
        for tasks in [0, 1, 2, size, size + 1, 100, 1000] {
            let wrong = self.run(tasks, |_| ()) + self.run(tasks, |i| work(i * 7919 % 3000));
            if wrong > 0 {
                return format!("{wrong} of {tasks} tasks did not run once");
            }
        }
        for n in 0..20_000 {
            if self.run(n % 6, |_| ()) > 0 {
                return format!("small run {n}");
            }
        }
        for n in 0..50 {
            // Long enough for the helpers to fall asleep.
            pause(Duration::from_micros(n * 100));
            // The run ends only if all threads are in it at once.
            let barrier = Barrier::new(size);
            let wrong = self.run(size, |_| {
                barrier.wait();
            });
            if wrong > 0 {
                return format!("after pause {n}");
            }
        }
        // Long enough for the caller to fall asleep, whichever task it takes.
        for long in 0..size {
            if self.run(size, |i| {
                if i == long {
                    pause(Duration::from_millis(20))
                }
            }) > 0
            {
                return format!("long task {long}");
            }
        }
        String::new()
    }

    /// Runs tasks of which number `failing` panics.
    pub fn fail(&self, failing: usize) {
        let barrier = Barrier::new(self.0.size());
        self.0.run(self.0.size(), &|i| {
            barrier.wait();
            assert!(i != failing, "as it was told");
        });
    }

    /// The median time of a fork and join of empty tasks in microseconds, after a pause of `pause_us` microseconds.
    pub fn latency(&self, runs: u32, pause_us: u32) -> f64 {
        let mut all: Vec<f64> = (0..runs)
            .map(|_| {
                pause(Duration::from_micros(pause_us.into()));
                // One run is too short for the clock of a browser.
                let repeats = if pause_us == 0 { 100 } else { 1 };
                let start = Instant::now();
                let barrier = AtomicU32::new(0);
                for n in 1..=repeats {
                    let there = n * self.0.size() as u32;
                    self.0.run(self.0.size(), &|_| {
                        barrier.fetch_add(1, Ordering::AcqRel);
                        while barrier.load(Ordering::Acquire) < there {}
                    });
                }
                start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats)
            })
            .collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

impl Crew {
    /// The number of tasks that did not run exactly once.
    fn run(&self, tasks: usize, work: impl Fn(usize) + Sync) -> usize {
        let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
        self.0.run(tasks, &|i| {
            work(i);
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.iter().filter(|count| count.load(Ordering::Relaxed) != 1).count()
    }
}

fn work(n: usize) {
    black_box((0..n).fold(0, |a, b| black_box(a ^ b)));
}

fn pause(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {}
}

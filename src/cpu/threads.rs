//! A pool of threads that share the tasks of a step. It is made for steps that last a tenth of a millisecond.
//!
//! Natively the pool starts its helper threads. In a browser, helpers are Web Workers that JavaScript starts on the module's
//! shared memory, and a pool takes those that have started. A build without shared memory has no helpers.

// The path is for tests/team, which includes this file as a module of its own.
#[cfg(any(not(target_arch = "wasm32"), target_feature = "atomics"))]
#[path = "threads/workers.rs"]
mod workers;
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
mod workers {
    /// There are no helpers.
    pub enum Workers {}

    impl Workers {
        pub fn start(_: usize) -> Option<Self> {
            None
        }

        pub fn helpers(&self) -> usize {
            match *self {}
        }

        pub fn run(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {
            match *self {}
        }
    }
}

use std::num::NonZeroUsize;
#[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
pub use workers::Helper;
use workers::Workers;

/// Threads that share the tasks of a step: the caller and its helpers.
pub struct ThreadPool {
    workers: Option<Workers>,
}

impl ThreadPool {
    /// The most threads by default. With more, the tasks of a step are too short to be shared.
    const DEFAULT_LIMIT: usize = 8;

    /// The caller and `threads - 1` helpers, or as many as there are.
    pub fn new(threads: usize) -> Self {
        ThreadPool { workers: threads.checked_sub(2).and_then(|_| Workers::start(threads - 1)) }
    }

    /// A pool of this many threads. Default: one a core, at most eight.
    pub fn of(threads: Option<NonZeroUsize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(Self::DEFAULT_LIMIT, usize::from);
        Self::new(threads.map_or_else(|| cores().min(Self::DEFAULT_LIMIT), usize::from))
    }

    /// The number of threads, including the caller.
    pub fn size(&self) -> usize {
        1 + self.workers.as_ref().map_or(0, Workers::helpers)
    }

    /// Calls `f(0)`, ..., `f(tasks - 1)` once each, on whichever thread is free, the caller included, and returns when all
    /// calls have returned. A run inside a task is done by that task's thread alone. Panics if a task panics.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.workers {
            Some(workers) if tasks > 1 => workers.run(tasks, f),
            _ => (0..tasks).for_each(f),
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    /// Runs `tasks` that each count themselves, and checks the counts.
    fn check(pool: &ThreadPool, tasks: usize, work: impl Fn(usize) + Sync) {
        let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
        pool.run(tasks, &|i| {
            work(i);
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        for (i, count) in counts.iter().enumerate() {
            assert_eq!(count.load(Ordering::Relaxed), 1, "task {i} of {tasks}, {} threads", pool.size());
        }
    }

    #[test]
    fn every_task_runs_once() {
        for threads in 1..=8 {
            let pool = ThreadPool::new(threads);
            assert_eq!(pool.size(), threads);
            for tasks in [0, 1, 2, 3, threads - 1, threads, threads + 1, 100, 1000] {
                check(&pool, tasks, |_| ());
                // Long and short tasks mixed.
                check(&pool, tasks, |i| {
                    std::hint::black_box((0..i * 7919 % 2000).fold(0, |a, n| std::hint::black_box(a ^ n)));
                });
            }
        }
        assert_eq!(ThreadPool::new(0).size(), 1);
    }

    #[test]
    fn many_small_runs_follow_each_other() {
        for threads in [2, 3, 8] {
            let pool = ThreadPool::new(threads);
            for n in 0..20_000 {
                check(&pool, n % 6, |_| ());
            }
        }
    }

    #[test]
    fn helpers_that_went_to_sleep_come_back() {
        let pool = ThreadPool::new(3);
        for n in 0..50 {
            thread::sleep(Duration::from_millis(n % 3));
            // Ends only with all three in it at once.
            let barrier = Barrier::new(3);
            check(&pool, 3, |_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn the_caller_waits_for_the_longest_task() {
        let pool = ThreadPool::new(2);
        let barrier = Barrier::new(2);
        // Long enough for the caller to fall asleep.
        check(&pool, 2, |i| {
            barrier.wait();
            thread::sleep(Duration::from_millis(20 * i as u64));
        });
    }

    #[test]
    fn a_run_within_a_run_is_the_callers_own() {
        let pool = ThreadPool::new(4);
        check(&pool, 8, |_| check(&pool, 8, |_| ()));
    }

    #[test]
    fn callers_may_be_several() {
        let pool = ThreadPool::new(4);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..1000).for_each(|n| check(&pool, n % 9, |_| ())));
            }
        });
    }

    #[test]
    fn an_idle_team_ends() {
        for n in 0..200 {
            let pool = ThreadPool::new(1 + n % 8);
            if n % 3 == 0 {
                check(&pool, 5, |_| ());
            }
            if n % 50 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_panic_in_any_task_is_the_callers() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        for failing in 0..2 {
            let pool = ThreadPool::new(2);
            // Both threads have a task, so the one that fails is either's.
            let barrier = Barrier::new(2);
            let caller = thread::current().id();
            let run = || {
                pool.run(2, &|_| {
                    barrier.wait();
                    assert_eq!(thread::current().id() == caller, failing == 0);
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            // What is left of the pool goes on.
            check(&pool, 10, |_| ());
        }
        std::panic::set_hook(hook);
    }
}

//! Threads that share a step: one fork and one join, for steps that last a tenth of a millisecond.
//!
//! Natively the helpers are threads of the team's own. In a browser they are workers that JavaScript
//! starts on the module's shared memory; a team takes those that have arrived. A build without shared
//! memory has none.

// The path is for tests/team, which has this file as a module of its own.
#[cfg(any(not(target_arch = "wasm32"), target_feature = "atomics"))]
#[path = "threads/helpers.rs"]
mod crew;
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
mod crew {
    /// There are no helpers.
    pub enum Crew {}

    impl Crew {
        pub fn gather(_: usize) -> Option<Self> {
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

use crew::Crew;
#[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
pub use crew::Helper;
use std::num::NonZeroUsize;

/// Threads that share a step: the caller and its helpers.
pub struct Team {
    crew: Option<Crew>,
}

impl Team {
    /// Most threads that are taken unasked: beyond, the steps are too short to be shared.
    const UNASKED: usize = 8;

    /// The caller and `threads - 1` helpers, or as many as there are.
    pub fn new(threads: usize) -> Self {
        Team { crew: threads.checked_sub(2).and_then(|_| Crew::gather(threads - 1)) }
    }

    /// As many threads as are asked for; unasked a thread a core, at most eight.
    pub fn of(threads: Option<NonZeroUsize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(Self::UNASKED, usize::from);
        Self::new(threads.map_or_else(|| cores().min(Self::UNASKED), usize::from))
    }

    /// How many threads there are, the caller among them.
    pub fn size(&self) -> usize {
        1 + self.crew.as_ref().map_or(0, Crew::helpers)
    }

    /// Calls `f(0)`, ..., `f(tasks - 1)`, each once, on whichever thread is free, the caller's among
    /// them; returns when all are done. A run within a run is the caller's alone. A panic in a task
    /// is the caller's too.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.crew {
            Some(crew) if tasks > 1 => crew.run(tasks, f),
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
    fn check(team: &Team, tasks: usize, work: impl Fn(usize) + Sync) {
        let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
        team.run(tasks, &|i| {
            work(i);
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        for (i, count) in counts.iter().enumerate() {
            assert_eq!(count.load(Ordering::Relaxed), 1, "task {i} of {tasks}, {} threads", team.size());
        }
    }

    #[test]
    fn every_task_runs_once() {
        for threads in 1..=8 {
            let team = Team::new(threads);
            assert_eq!(team.size(), threads);
            for tasks in [0, 1, 2, 3, threads - 1, threads, threads + 1, 100, 1000] {
                check(&team, tasks, |_| ());
                // Long and short tasks mixed.
                check(&team, tasks, |i| {
                    std::hint::black_box((0..i * 7919 % 2000).fold(0, |a, n| std::hint::black_box(a ^ n)));
                });
            }
        }
        assert_eq!(Team::new(0).size(), 1);
    }

    #[test]
    fn many_small_runs_follow_each_other() {
        for threads in [2, 3, 8] {
            let team = Team::new(threads);
            for n in 0..20_000 {
                check(&team, n % 6, |_| ());
            }
        }
    }

    #[test]
    fn helpers_that_went_to_sleep_come_back() {
        let team = Team::new(3);
        for n in 0..50 {
            thread::sleep(Duration::from_millis(n % 3));
            // Ends only with all three in it at once.
            let barrier = Barrier::new(3);
            check(&team, 3, |_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn the_caller_waits_for_the_longest_task() {
        let team = Team::new(2);
        let barrier = Barrier::new(2);
        // Long enough for the caller to fall asleep.
        check(&team, 2, |i| {
            barrier.wait();
            thread::sleep(Duration::from_millis(20 * i as u64));
        });
    }

    #[test]
    fn a_run_within_a_run_is_the_callers_own() {
        let team = Team::new(4);
        check(&team, 8, |_| check(&team, 8, |_| ()));
    }

    #[test]
    fn callers_may_be_several() {
        let team = Team::new(4);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..1000).for_each(|n| check(&team, n % 9, |_| ())));
            }
        });
    }

    #[test]
    fn an_idle_team_ends() {
        for n in 0..200 {
            let team = Team::new(1 + n % 8);
            if n % 3 == 0 {
                check(&team, 5, |_| ());
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
            let team = Team::new(2);
            // Both threads have a task, so the one that fails is either's.
            let barrier = Barrier::new(2);
            let caller = thread::current().id();
            let run = || {
                team.run(2, &|_| {
                    barrier.wait();
                    assert_eq!(thread::current().id() == caller, failing == 0);
                })
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            // What is left of the team goes on.
            check(&team, 10, |_| ());
        }
        std::panic::set_hook(hook);
    }
}

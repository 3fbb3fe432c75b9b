//! The helpers of a pool: how they learn of a run, take part in it, and are waited for.
//!
//! One atomic word holds the state of a run: whether it is open, how many helpers are inside, and its number. A helper
//! enters an open run by adding itself to the word. The caller closes the run when no task is left, and waits only for the
//! helpers that are inside, so that a helper which is slow to wake delays nobody.

#![allow(unsafe_code, reason = "threads run a task of their caller's, who waits for them")]
#![deny(unsafe_op_in_unsafe_fn)]

use std::cell::UnsafeCell;
use std::hint;
use std::mem::transmute;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

// The bits of the word, from the lowest.
/// Helpers may enter.
const OPEN: u32 = 1;
/// The caller sleeps, and the last helper that leaves the run wakes it.
const ASLEEP: u32 = 1 << 1;
/// The pool ends.
const END: u32 = 1 << 2;
/// One helper inside; their number has eight bits.
const ONE: u32 = 1 << 3;
const INSIDE: u32 = 0xff << 3;
/// The number of the run. It wraps around; at worst a helper then misses a run.
const RUN: u32 = 1 << 11;

/// The most helpers of a pool.
const MAX_HELPERS: usize = 63;

/// How often a thread reads the word in a spin loop before it sleeps: for 0.5 to 1 ms in wasm and 0.4 ms natively, on a
/// 2.6 GHz EPYC. A spinning helper joins a run within 0.3 microseconds (1 natively), a sleeping one within 20 to 35. The
/// limit is larger than that because of the scheduler: in a virtual machine Linux may take an idle core for a busy one and
/// wake a helper on its caller's core, and it moves the helper only after both have wanted to run for some milliseconds.
/// With a tenth of the limit, two threads were as slow as one after every pause of 150 ms.
const SPIN_LIMIT: u32 = if cfg!(target_arch = "wasm32") { 300_000 } else { 10_000 };

/// What the caller and its helpers share.
struct Shared {
    word: Line<AtomicU32>,
    /// The next task to take.
    next: Line<AtomicUsize>,
    /// Written by the caller while the run is closed and nobody is inside; read by the helpers inside.
    job: UnsafeCell<Job>,
    /// Whether a caller has an open run.
    busy: AtomicBool,
    /// Whether a task has panicked on a helper.
    failed: AtomicBool,
    /// The number of helpers that sleep or are about to.
    asleep: AtomicU32,
    helpers: Gate,
    caller: Gate,
    /// The number of helpers that have started, and how many of them the pool keeps.
    arrived: AtomicUsize,
    places: AtomicUsize,
}

/// A value on a cache line of its own.
#[repr(align(64))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Job {
    tasks: usize,
    /// Lives as long as the run.
    f: Option<*const (dyn Fn(usize) + Sync)>,
}

// SAFETY: `job` alone is not shared by itself. It is written only by the caller that has `busy`, before it opens
// the run and after it saw the last helper leave; helpers read it only inside. The word's release and
// acquire order the two. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Self {
        Shared {
            word: Line(AtomicU32::new(0)),
            next: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job { tasks: 0, f: None }),
            busy: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            asleep: AtomicU32::new(0),
            helpers: Gate::default(),
            caller: Gate::default(),
            arrived: AtomicUsize::new(0),
            places: AtomicUsize::new(MAX_HELPERS),
        }
    }

    /// Does tasks until none is left.
    fn work(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        loop {
            let task = self.next.0.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            f(task);
        }
    }

    fn open(&self) {
        let run = self.word.0.load(Ordering::Relaxed) & !(RUN - 1);
        self.word.0.store(run.wrapping_add(RUN) | OPEN, Ordering::SeqCst);
        // In this order with the store, as a helper counts itself before it looks a last time.
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.helpers.wake();
        }
    }

    /// Closes the run to further helpers, and waits until those inside have left.
    fn close(&self) {
        let mut word = self.word.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while word & INSIDE != 0 {
            if spins < SPIN_LIMIT {
                spins += 1;
                hint::spin_loop();
            } else {
                word = self.word.0.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
                if word & INSIDE != 0 {
                    self.caller.wait(&self.word.0, word);
                }
            }
            word = self.word.0.load(Ordering::Acquire);
        }
    }

    /// Waits for an open run other than the last and enters it; returns false if the pool ends.
    fn enter(&self, number: usize, last: &mut u32) -> bool {
        let mut spins = 0;
        loop {
            let word = self.word.0.load(Ordering::Acquire);
            if word & END != 0 || number > self.places.load(Ordering::Relaxed) {
                return false;
            }
            if word & OPEN != 0 && word / RUN != *last {
                let entered = self.word.0.compare_exchange(word, word + ONE, Ordering::AcqRel, Ordering::Relaxed);
                if entered.is_ok() {
                    *last = word / RUN;
                    return true;
                }
            } else if spins < SPIN_LIMIT {
                spins += 1;
                hint::spin_loop();
            } else {
                self.asleep.fetch_add(1, Ordering::SeqCst);
                self.helpers.wait(&self.word.0, word);
                self.asleep.fetch_sub(1, Ordering::Relaxed);
                spins = 0;
            }
        }
    }

    fn leave(&self) {
        let word = self.word.0.fetch_sub(ONE, Ordering::AcqRel);
        if word & ASLEEP != 0 && word & INSIDE == ONE {
            self.caller.wake();
        }
    }

    /// Tells every helper to end.
    fn end(&self) {
        self.word.0.fetch_or(END, Ordering::SeqCst);
        self.helpers.wake();
    }
}

/// A place where threads sleep until a word changes.
#[derive(Default)]
struct Gate {
    lock: Mutex<()>,
    woken: Condvar,
}

impl Gate {
    /// Sleeps while the word is as it was seen; whoever changes it and wants that known calls `wake`.
    fn wait(&self, word: &AtomicU32, seen: u32) {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while word.load(Ordering::SeqCst) == seen {
            held = self.woken.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self) {
        // Whoever saw the old word sleeps by the time the lock is free.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }
}

/// One helper.
pub struct Helper {
    shared: Arc<Shared>,
    /// 1 is the first.
    number: usize,
    inside: AtomicBool,
}

impl Helper {
    fn join(shared: Arc<Shared>) -> Self {
        let number = 1 + shared.arrived.fetch_add(1, Ordering::Relaxed);
        Helper { shared, number, inside: AtomicBool::new(false) }
    }

    /// Takes part in runs, and returns when the pool ends.
    pub fn work(&self) {
        let mut last = u32::MAX;
        while self.shared.enter(self.number, &mut last) {
            self.inside.store(true, Ordering::Relaxed);
            // SAFETY: inside, so nobody writes the job, and the caller keeps the task alive until we leave.
            let (tasks, f) = unsafe {
                let job = *self.shared.job.get();
                (job.tasks, job.f.map(|f| &*f))
            };
            f.into_iter().for_each(|f| self.shared.work(tasks, f));
            self.inside.store(false, Ordering::Relaxed);
            self.shared.leave();
        }
    }

    /// To be called when `work` threw instead of returning. It tells the waiting caller; the helper takes no further part.
    pub fn fail(&self) {
        self.shared.failed.store(true, Ordering::Relaxed);
        if self.inside.swap(false, Ordering::Relaxed) {
            self.shared.leave();
        }
    }
}

/// The helpers of a pool, which end when it is dropped.
pub struct Workers {
    shared: Arc<Shared>,
    helpers: usize,
    #[cfg(not(target_arch = "wasm32"))]
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Workers {
    /// Starts as many helpers as are wanted, or as the system allows.
    pub fn start(wanted: usize) -> Option<Self> {
        let shared = Arc::new(Shared::new());
        let start = |_| {
            let helper = Helper::join(Arc::clone(&shared));
            let work = move || {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| helper.work()));
                done.unwrap_or_else(|_| helper.fail());
            };
            std::thread::Builder::new().name("googlenet".into()).spawn(work).ok()
        };
        let threads: Vec<_> = (0..wanted.min(MAX_HELPERS)).map_while(start).collect();
        (!threads.is_empty()).then(|| Workers { helpers: threads.len(), shared, threads })
    }
}

/// Helpers of a browser that no pool has taken yet.
#[cfg(target_arch = "wasm32")]
static PENDING_WORKERS: Mutex<Option<Arc<Shared>>> = Mutex::new(None);

#[cfg(target_arch = "wasm32")]
impl Helper {
    /// Makes the calling Web Worker a helper, which the next pool takes. It must call [`Helper::work`] next.
    pub fn arrive() -> Self {
        let mut pending = PENDING_WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        Helper::join(Arc::clone(pending.get_or_insert_with(|| Arc::new(Shared::new()))))
    }
}

#[cfg(target_arch = "wasm32")]
impl Workers {
    /// Takes the helpers that have started since the last time. Those that are not wanted end.
    pub fn start(wanted: usize) -> Option<Self> {
        let shared = PENDING_WORKERS.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let helpers = shared.arrived.load(Ordering::Relaxed).min(wanted).min(MAX_HELPERS);
        shared.places.store(helpers, Ordering::SeqCst);
        Some(Workers { shared, helpers })
    }
}

impl Workers {
    pub fn helpers(&self) -> usize {
        self.helpers
    }

    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if shared.busy.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(f);
        }
        let run = Run(shared);
        // SAFETY: only the lifetime changes. Helpers use the pointer inside the run only, and `Run`, when it
        // is dropped, be it by a panic, returns after the last of them has left.
        let pointer = unsafe { transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(f) };
        // SAFETY: `busy` is ours and the run before is over, so nobody is inside.
        unsafe { *shared.job.get() = Job { tasks, f: Some(pointer) } };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.open();
        shared.work(tasks, f);
        drop(run);
    }
}

/// An open run, which is closed when this is dropped.
struct Run<'a>(&'a Shared);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.close();
        let failed = self.0.failed.swap(false, Ordering::Relaxed);
        self.0.busy.store(false, Ordering::Release);
        if failed && !std::thread::panicking() {
            panic!("a task failed on a helper thread");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.end();
        #[cfg(not(target_arch = "wasm32"))]
        for thread in self.threads.drain(..) {
            // It caught its own panic.
            let _ = thread.join();
        }
    }
}

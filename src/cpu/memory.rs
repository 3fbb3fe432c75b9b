//! The memory of the CPU engine: aligned floats, parts of which several threads may write at once.

#![allow(unsafe_code, reason = "buffers that many threads write into, each its own part")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::view::Out;
use crate::plan::Place;
use bytemuck::{Pod, Zeroable};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A cache line. Vectors at multiples of their size never span two lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; 16]);

/// Floats that are aligned to a cache line.
#[derive(Default)]
pub struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    pub fn zeros(len: usize) -> Self {
        Floats { lines: vec![Line::zeroed(); len.div_ceil(16)], len }
    }

    /// Allocates memory for this many floats, without filling it. Returns `None` if there is not enough.
    fn try_with_len(len: usize) -> Option<Self> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(len.div_ceil(16)).ok()?;
        Some(Floats { lines, len })
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// A buffer of the plan or the scratch memory of a thread. Several threads may write to different parts of it.
#[derive(Default)]
pub struct Buffer(UnsafeCell<Floats>);

// SAFETY: the contents are only accessible through unsafe methods, whose callers avoid data races.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates one buffer of zeros for each length. Returns `None` if there is not enough memory for all of them; in
    /// that case no memory has been touched.
    pub fn zeros(lens: impl Iterator<Item = usize>) -> Option<Vec<Self>> {
        let mut all: Vec<Floats> = lens.map(Floats::try_with_len).collect::<Option<_>>()?;
        all.iter_mut().for_each(|floats| floats.lines.resize(floats.len.div_ceil(16), Line::zeroed()));
        Some(all.into_iter().map(|floats| Buffer(UnsafeCell::new(floats))).collect())
    }

    /// # Safety
    /// No other thread may write to the buffer while the slice is in use.
    pub unsafe fn read(&self) -> &[f32] {
        // SAFETY: guaranteed by the caller.
        unsafe { &*self.0.get() }
    }

    /// # Safety
    /// No other thread may access the buffer while the slice is in use.
    #[expect(clippy::mut_from_ref, reason = "an UnsafeCell's purpose")]
    pub unsafe fn write(&self) -> &mut [f32] {
        // SAFETY: guaranteed by the caller.
        unsafe { &mut *self.0.get() }
    }

    #[cfg(feature = "train")]
    pub fn new(floats: Floats) -> Self {
        Buffer(UnsafeCell::new(floats))
    }

    /// The number of floats.
    #[cfg(feature = "train")]
    pub fn len(&self) -> usize {
        // SAFETY: the length never changes.
        unsafe { (*self.0.get()).len }
    }

    #[cfg(feature = "train")]
    pub fn get_mut(&mut self) -> &mut [f32] {
        self.0.get_mut()
    }

    /// A pointer to the first float.
    #[cfg(feature = "train")]
    pub fn pointer(&self) -> *mut f32 {
        // SAFETY: this only takes a pointer. The callers of functions that use it avoid data races.
        unsafe { (*self.0.get()).as_mut_ptr() }
    }

    /// The place of a node's output, for writing.
    pub fn out(&self, place: Place) -> Out<'_> {
        // SAFETY: this only takes a pointer and a length. The callers of the unsafe methods of `Out` avoid data races.
        let floats = unsafe { &mut *self.0.get() };
        Out::new(&mut floats[place.offset..], place.stride, place.shape)
    }
}

/// One scratch buffer for each thread, as large as the largest task needs.
pub struct Scratch(Vec<(AtomicBool, Buffer)>);

impl Scratch {
    pub fn new(threads: usize, floats: usize) -> Option<Self> {
        let buffers = Buffer::zeros((0..threads).map(|_| floats))?;
        Some(Scratch(buffers.into_iter().map(|buffer| (AtomicBool::new(false), buffer)).collect()))
    }

    /// Calls `f` with a buffer that no other thread uses. There are as many buffers as threads, so one becomes free.
    pub fn with<T>(&self, f: impl FnOnce(&mut [f32]) -> T) -> T {
        loop {
            for (taken, buffer) in &self.0 {
                if taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    // SAFETY: this thread has set the flag, so no other thread uses the buffer.
                    let result = f(unsafe { buffer.write() });
                    taken.store(false, Ordering::Release);
                    return result;
                }
            }
            std::hint::spin_loop();
        }
    }
}

//! Where the CPU engine keeps its floats: aligned, and writable in parts by several threads at once.

#![allow(unsafe_code, reason = "buffers that many threads write into, each its own part")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::view::Out;
use crate::plan::Place;
use bytemuck::{Pod, Zeroable};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

/// A cache line. Vectors that begin at one's start never straddle two.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; 16]);

/// Floats that begin at the start of a cache line.
#[derive(Default)]
pub struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    pub fn zeros(len: usize) -> Self {
        Floats { lines: vec![Line::zeroed(); len.div_ceil(16)], len }
    }

    /// Room for as many, to be filled; nothing where there is none.
    fn room(len: usize) -> Option<Self> {
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

/// A buffer of the plan, or a thread's scratch: floats that threads may write side by side.
pub struct Buffer(UnsafeCell<Floats>);

// SAFETY: what is shared is reached through unsafe methods only, whose callers keep writers apart.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// One of zeros for each length; nothing where there is no room for all. No memory is touched before there is.
    pub fn zeros(lens: impl Iterator<Item = usize>) -> Option<Vec<Self>> {
        let mut all: Vec<Floats> = lens.map(Floats::room).collect::<Option<_>>()?;
        all.iter_mut().for_each(|floats| floats.lines.resize(floats.len.div_ceil(16), Line::zeroed()));
        Some(all.into_iter().map(|floats| Buffer(UnsafeCell::new(floats))).collect())
    }

    /// # Safety
    /// Nothing writes the buffer while the slice is in use.
    pub unsafe fn read(&self) -> &[f32] {
        // SAFETY: the caller's.
        unsafe { &*self.0.get() }
    }

    /// # Safety
    /// Nothing else uses the buffer while the slice is in use.
    #[expect(clippy::mut_from_ref, reason = "an UnsafeCell's purpose")]
    pub unsafe fn write(&self) -> &mut [f32] {
        // SAFETY: the caller's.
        unsafe { &mut *self.0.get() }
    }

    /// A node's place to write.
    pub fn out(&self, place: Place) -> Out<'_> {
        // SAFETY: only a pointer and a length are taken; whoever writes through them answers for it.
        let floats = unsafe { &mut *self.0.get() };
        Out::new(&mut floats[place.offset..], place.stride, place.shape)
    }
}

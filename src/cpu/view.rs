//! A node's values where they lie: a channel slice of a buffer.

#![allow(unsafe_code, reason = "buffers that many threads write into, each its own part")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::graph::tensor::Shape;
use crate::plan::Place;
use std::marker::PhantomData;

/// Values to read. The element at pixel p, channel c is `data[p * stride + c]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// From the first pixel's first channel on.
    pub data: &'a [f32],
    pub stride: usize,
    pub shape: Shape,
}

impl<'a> View<'a> {
    pub fn new(buffer: &'a [f32], place: Place) -> Self {
        View { data: &buffer[place.offset..], stride: place.stride, shape: place.shape }
    }

    /// The channels of one pixel.
    pub fn pixel(&self, p: usize) -> &'a [f32] {
        &self.data[p * self.stride..][..self.shape.c]
    }
}

/// Rows to write: row r's columns begin at `data[r * stride]`.
#[derive(Clone, Copy)]
pub struct RowsMut {
    pub data: *mut f32,
    pub stride: usize,
}

/// Values to write, laid out as in [`View`]. Several threads may hold one, each writing its own pixels
/// or channels.
#[derive(Clone, Copy)]
pub struct Out<'a> {
    data: *mut f32,
    len: usize,
    pub stride: usize,
    pub shape: Shape,
    lives: PhantomData<&'a mut [f32]>,
}

// SAFETY: writing is unsafe, and whoever writes answers for being alone there.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    pub fn new(data: &'a mut [f32], stride: usize, shape: Shape) -> Self {
        Out { data: data.as_mut_ptr(), len: data.len(), stride, shape, lives: PhantomData }
    }

    /// A pointer to a channel of a pixel, with `count` floats from there on inside the buffer.
    pub fn at(&self, pixel: usize, channel: usize, count: usize) -> *mut f32 {
        let first = pixel * self.stride + channel;
        assert!(first + count <= self.len, "a pixel beyond the buffer");
        self.data.wrapping_add(first)
    }

    /// All pixels from this one on, as a matrix's rows.
    pub fn rows(&self, pixel: usize) -> RowsMut {
        RowsMut { data: self.at(pixel, 0, self.shape.c), stride: self.stride }
    }

    /// The channels of one pixel.
    ///
    /// # Safety
    /// Nothing else uses the pixel's channels while the slice is in use.
    pub unsafe fn pixel(&self, p: usize) -> &'a mut [f32] {
        // SAFETY: `at` saw to the bounds; the rest is the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.at(p, 0, self.shape.c), self.shape.c) }
    }
}

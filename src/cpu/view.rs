//! Access to a node's values, which are a range of the channels of a buffer.

#![allow(unsafe_code, reason = "buffers that many threads write into, each its own part")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::graph::tensor::{Shape, Tensor};
use crate::plan::Place;
use std::marker::PhantomData;

/// Values to read. The value of pixel p and channel c is `data[p * stride + c]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The buffer from the first channel of the first pixel on.
    pub data: &'a [f32],
    pub stride: usize,
    pub shape: Shape,
}

impl<'a> View<'a> {
    pub fn new(buffer: &'a [f32], place: Place) -> Self {
        View { data: &buffer[place.offset..], stride: place.stride, shape: place.shape }
    }

    /// The channels of a pixel.
    pub fn pixel(&self, p: usize) -> &'a [f32] {
        &self.data[p * self.stride..][..self.shape.c]
    }

    /// A copy of the values.
    pub fn tensor(&self) -> Tensor {
        let mut tensor = Tensor::zeros(self.shape);
        for (p, to) in tensor.data.chunks_exact_mut(self.shape.c).enumerate() {
            to.copy_from_slice(self.pixel(p));
        }
        tensor
    }
}

/// Rows to write. Row r begins at `data[r * stride]`.
#[derive(Clone, Copy)]
pub struct RowsMut {
    pub data: *mut f32,
    pub stride: usize,
}

/// Values to write, in the layout of [`View`]. Several threads may write through copies, each to its own pixels or
/// channels.
#[derive(Clone, Copy)]
pub struct Out<'a> {
    data: *mut f32,
    len: usize,
    pub stride: usize,
    pub shape: Shape,
    lives: PhantomData<&'a mut [f32]>,
}

// SAFETY: writing is unsafe, and the callers avoid data races.
unsafe impl Send for Out<'_> {}
// SAFETY: see `Send`.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    pub fn new(data: &'a mut [f32], stride: usize, shape: Shape) -> Self {
        Out { data: data.as_mut_ptr(), len: data.len(), stride, shape, lives: PhantomData }
    }

    /// A pointer to a channel of a pixel. Panics if the next `count` floats are not all within the buffer.
    pub fn at(&self, pixel: usize, channel: usize, count: usize) -> *mut f32 {
        let first = pixel * self.stride + channel;
        assert!(first + count <= self.len, "a pixel beyond the buffer");
        self.data.wrapping_add(first)
    }

    /// All pixels from this one on, as rows of a matrix.
    pub fn rows(&self, pixel: usize) -> RowsMut {
        RowsMut { data: self.at(pixel, 0, self.shape.c), stride: self.stride }
    }

    /// The channels of a pixel.
    ///
    /// # Safety
    /// No other thread may access the pixel's channels while the slice is in use.
    pub unsafe fn pixel(&self, p: usize) -> &'a mut [f32] {
        // SAFETY: `at` checks the bounds; the rest is guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.at(p, 0, self.shape.c), self.shape.c) }
    }
}

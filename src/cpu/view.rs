//! A node's values where they lie: a channel slice of a buffer.

use crate::plan::Place;
use crate::tensor::Shape;

/// Values to read. The element at pixel p, channel c is `data[p * stride + c]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// From the first pixel's first channel on.
    pub data: &'a [f32],
    pub stride: usize,
    pub shape: Shape,
}

/// Values to write, laid out as in [`View`].
pub struct ViewMut<'a> {
    pub data: &'a mut [f32],
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

impl<'a> ViewMut<'a> {
    pub fn new(buffer: &'a mut [f32], place: Place) -> Self {
        ViewMut { data: &mut buffer[place.offset..], stride: place.stride, shape: place.shape }
    }

    /// The channels of one pixel.
    pub fn pixel(&mut self, p: usize) -> &mut [f32] {
        &mut self.data[p * self.stride..][..self.shape.c]
    }
}

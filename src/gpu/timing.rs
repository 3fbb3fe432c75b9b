//! Timestamps at the beginnings and ends of passes, on devices that support them.

use super::device::Device;
use std::ops::Range;
use wgpu::{Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, QuerySet};

/// Two timestamps for each span: its beginning and its end.
pub struct Timer {
    queries: QuerySet,
    resolved: Buffer,
    spans: u32,
    /// The number of nanoseconds per tick.
    period: f64,
}

impl Timer {
    /// A timer of this many spans; `None` if the device does not support it.
    pub fn new(device: &Device, spans: usize) -> Option<Self> {
        let spans = u32::try_from(spans).ok()?;
        if !device.has_timestamps() || spans.checked_mul(2)? > wgpu::QUERY_SET_MAX_QUERIES {
            return None;
        }
        let queries = device.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("times"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * spans,
        });
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = device.buffer("times", u64::from(spans) * 16, usage);
        Some(Timer { queries, resolved, spans, period: f64::from(device.queue.get_timestamp_period()) })
    }

    /// The number of bytes of the timestamps of all spans.
    pub fn byte_len(&self) -> u64 {
        u64::from(self.spans) * 16
    }

    /// The timestamps to write at the beginning and the end of a pass: the span's beginning, its end, or both. `None`
    /// if neither is to be written.
    pub fn writes(&self, span: usize, begins: bool, ends: bool) -> Option<ComputePassTimestampWrites<'_>> {
        let at = 2 * span as u32;
        (begins || ends).then(|| ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: begins.then_some(at),
            end_of_pass_write_index: ends.then_some(at + 1),
        })
    }

    /// Encodes a copy of the timestamps of these spans to `to`. Each of them must have been written.
    pub fn resolve(&self, encoder: &mut CommandEncoder, spans: Range<usize>, to: &Buffer, offset: u64) {
        let bytes = spans.len() as u64 * 16;
        encoder.resolve_query_set(&self.queries, 2 * spans.start as u32..2 * spans.end as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, to, offset, bytes);
    }

    /// The number of nanoseconds per tick.
    pub fn period(&self) -> f64 {
        self.period
    }
}

/// The milliseconds of each span, from pairs of ticks of `period` nanoseconds.
pub fn milliseconds(ticks: &[u64], period: f64) -> Vec<f64> {
    // A browser may round the end of a span to before its beginning.
    ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0]) as f64 * period / 1e6).collect()
}

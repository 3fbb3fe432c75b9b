//! The step times of runs in Chrome's JSON trace format, which chrome://tracing and Perfetto display:
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>

use googlenet::engine::{Engine, Output};
use serde::Serialize;
use std::path::Path;

/// A trace of runs one after the other. The duration of a run is the sum of its steps' times.
#[derive(Default, Serialize)]
pub struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
    /// Where the next event begins, in microseconds.
    #[serde(skip)]
    now: f64,
}

/// A complete event ("X"). Times are in microseconds.
#[derive(Serialize)]
struct Event {
    name: String,
    cat: String,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Layer>,
}

/// What a step computes.
#[derive(Serialize)]
struct Layer {
    output: String,
    macs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
}

impl Trace {
    /// Adds a timed run of one picture.
    pub fn add(&mut self, picture: &Path, engine: &Engine, output: &Output) {
        let network = &engine.model().network;
        let begin = self.now;
        self.push("preprocess".into(), "picture", output.preprocess_ms, None);
        for step in &output.steps {
            let node = network.node(step.node);
            let algorithm = engine.algorithm(step.node).map(|a| a.algorithm);
            let layer = Layer { output: node.shape.to_string(), macs: network.macs(step.node), algorithm };
            self.push(node.name.clone(), node.op.kind(), step.ms, Some(layer));
        }
        let whole = (self.now - begin) / 1000.0;
        self.now = begin;
        self.push(picture.display().to_string(), &engine.info().adapter, whole, None);
    }

    /// Adds an event that begins now, and moves `now` to its end.
    fn push(&mut self, name: String, cat: &str, ms: f64, args: Option<Layer>) {
        let dur = ms * 1000.0;
        self.events.push(Event { name, cat: cat.into(), ph: "X", ts: self.now, dur, pid: 1, tid: 1, args });
        self.now += dur;
    }
}

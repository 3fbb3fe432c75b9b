//! The description of a network, without weights or buffers: shapes, operations, the graph, and the paper's table from
//! which GoogLeNet is built.

pub mod googlenet;
pub mod network;
pub mod op;
pub mod summary;
pub mod tensor;

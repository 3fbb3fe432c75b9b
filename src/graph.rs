//! What a network is, as data without buffers: shapes, operations, the graph, and the paper's table that GoogLeNet is
//! built from.

pub mod googlenet;
pub mod network;
pub mod op;
pub mod summary;
pub mod tensor;

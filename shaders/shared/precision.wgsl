// Activations, and the weights that they are multiplied by, in f32. precision_f16.wgsl stands in its place where the
// device computes in f16. Every shader begins with one of the two.

alias real = f32;
alias real4 = vec4f;
alias weight4 = vec4f;
alias weight4x4 = mat4x4f;

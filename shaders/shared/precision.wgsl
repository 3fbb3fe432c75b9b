// The types of activations and of the weights that they are multiplied by: f32. Devices that compute in f16 use
// precision_f16.wgsl instead. Every shader begins with one of the two.

alias real = f32;
alias real4 = vec4f;
alias weight4 = vec4f;
alias weight4x4 = mat4x4f;

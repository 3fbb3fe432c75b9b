// The types of activations and of the weights that they are multiplied by: f16. Sums are still in f32.

enable f16;

alias real = f16;
alias real4 = vec4h;
alias weight4 = vec4h;
alias weight4x4 = mat4x4h;

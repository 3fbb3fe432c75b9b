// Pseudo-random numbers that depend only on their place: PCG3D of Jarzynski and Olano, "Hash functions for GPU
// rendering" (Journal of Computer Graphics Techniques 9(3), 2020). Twin of src/plan/random.rs.

fn hash(seed: vec3u) -> vec3u {
    var v = seed * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3u(16u);
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    return v;
}

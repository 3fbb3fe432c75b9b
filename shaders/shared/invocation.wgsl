// For dispatches with one thread for each element, in workgroups of 64 threads.

const THREADS = 64u;

// The index of a thread's element. Where one dimension is too short for the workgroups, they form a rectangle.
fn element(group: vec3u, groups: vec3u, thread: u32) -> u32 {
    return (group.y * groups.x + group.x) * THREADS + thread;
}

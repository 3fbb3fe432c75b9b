// Dispatches of one thread an element, in workgroups of 64.

const THREADS = 64u;

// The element of a thread. Workgroups stand in rows where one dimension does not hold them all.
fn element(group: vec3u, groups: vec3u, thread: u32) -> u32 {
    return (group.y * groups.x + group.x) * THREADS + thread;
}

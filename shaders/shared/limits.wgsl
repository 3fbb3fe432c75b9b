// The smallest and the largest finite f32.

const LOWEST = -3.4028234663852886e38f;
const GREATEST = 3.4028234663852886e38f;

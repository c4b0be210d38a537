// Noise as a function of (seed, image, draw), the same numbers as fewstep/handin/page/noise.py
// gives: pcg4d (Jarzynski & Olano 2020, JCGT 9(3)) on a counter, then Box & Muller (1958).

const WORDS = 2 ** 32;

function stir(v) {
  v[0] = v[0] + Math.imul(v[1], v[3]);
  v[1] = v[1] + Math.imul(v[2], v[0]);
  v[2] = v[2] + Math.imul(v[0], v[1]);
  v[3] = v[3] + Math.imul(v[1], v[2]);
}

// Four 32-bit numbers, replaced by four that look random. v: Uint32Array of 4.
function pcg4d(v) {
  for (let i = 0; i < 4; i += 1) v[i] = Math.imul(v[i], 1664525) + 1013904223;
  stir(v);
  for (let i = 0; i < 4; i += 1) v[i] ^= v[i] >>> 16;
  stir(v);
}

// Fills `values` with standard normal numbers, four a block, from block `first` on.
function fillNormal(values, seed, image, draw, first) {
  const v = new Uint32Array(4);
  for (let place = 0; place < values.length; place += 4) {
    v.set([first + place / 4, draw, image, seed]);
    pcg4d(v);
    for (let pair = 0; pair < 4; pair += 2) {
      const length = Math.sqrt(-2 * Math.log((v[pair] + 0.5) / WORDS));
      const turn = (2 * Math.PI * v[pair + 1]) / WORDS;
      values[place + pair] = length * Math.cos(turn);
      values[place + pair + 1] = length * Math.sin(turn);
    }
  }
}

// Noise of one image as a Float32Array, channel by channel. offset: the standard deviation of one
// further number a channel. Draw 0 is where an image starts, draw k what the k-th step adds.
export function drawNoise(seed, image, draw, [channels, height, width], offset) {
  const size = channels * height * width;
  const blocks = Math.ceil(size / 4);
  const values = new Float64Array(4 * blocks);
  const shared = new Float64Array(4 * Math.ceil(channels / 4));
  fillNormal(values, seed, image, draw, 0);
  fillNormal(shared, seed, image, draw, blocks);
  const area = height * width;
  const noise = new Float32Array(size);
  for (let i = 0; i < size; i += 1) noise[i] = values[i] + offset * shared[Math.floor(i / area)];
  return noise;
}

// A point on the way from noise a (share 0) to noise b (share 1). The squares of the weights add up
// to 1, so a mixture of two independent noises has the variance of either at every share.
export function mixNoise(a, b, share) {
  const [keep, give] = [Math.cos((share * Math.PI) / 2), Math.sin((share * Math.PI) / 2)];
  return a.map((value, i) => keep * value + give * b[i]);
}

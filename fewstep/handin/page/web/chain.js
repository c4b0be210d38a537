// The few-step chain around one evaluation of the network, as fewstep/handin/page/plan.py has it.

// Runs a plan of model.json. evaluate: async (x, levels) -> output; noiseOf: draw -> noise; all
// Float32Arrays of one image, channel by channel.
export async function runPlan(plan, evaluate, noiseOf) {
  let x = noiseOf(0).map((value) => plan.start * value);
  let draw = 0;
  for (const step of plan.steps) {
    const output = await evaluate(x, step.levels);
    x = x.map((value, i) => step.keep * value + step.give * output[i]);
    if (step.noise) {
      draw += 1;
      const noise = noiseOf(draw);
      x = x.map((value, i) => value + step.noise * noise[i]);
    }
  }
  return x;
}

// Values, [-1, 1] -> grey levels of a canvas, red, green, blue and opacity by pixel.
export function toPixels(x) {
  const area = x.length / 3;
  const pixels = new Uint8ClampedArray(4 * area).fill(255); // which cuts off and rounds
  for (let i = 0; i < x.length; i += 1) {
    pixels[4 * (i % area) + Math.floor(i / area)] = (x[i] * 0.5 + 0.5) * 255;
  }
  return pixels;
}
